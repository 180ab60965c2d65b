"""The primary dies: acknowledged writes are there once, and impossible ones are refused."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.clock import START
from tests.contract.steps import bodies, claim, ids, page, post, subscribe
from tests.mongod import ReplicaSet
from tests.mongodb.opened import opened
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef

# The library leaves connections behind whose making was cut short; they go with the garbage.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PRODUCERS = 4
POSTS_AFTER = 40


async def test_posts_and_claims_outlive_the_primary(
    three_members: ReplicaSet, queue: QueueRef
) -> None:
    storage = await opened(three_members.uri("failover"))
    await subscribe(storage, queue)
    acknowledged: list[str] = []
    claimed: list[str] = []
    in_doubt: set[str] = set()
    is_busy, is_dead = asyncio.Event(), asyncio.Event()

    async def produce(name: int) -> None:
        left = POSTS_AFTER
        number = 0
        while left:
            body = f"{name}/{number}"
            number += 1
            left -= is_dead.is_set()
            try:
                await post(storage, queue, bodies=[body])
            except StorageUnavailable:
                continue
            acknowledged.append(body)
            if len(acknowledged) == 50:
                is_busy.set()

    async def consume() -> None:
        while not producing.done() or await claim_some():
            await claim_some()

    async def claim_some() -> bool:
        try:
            held = await claim(storage, queue, limit=10, ttl=3600)
        except StorageUnavailable:
            return True
        if held is None:
            return False
        try:
            await storage.messages.delete_many(queue, ids(held), claim_ids=None, now=START)
        except StorageUnavailable:
            in_doubt.update(bodies(held))
        else:
            claimed.extend(bodies(held))
        return True

    async with asyncio.timeout(60):
        producing = asyncio.gather(*(produce(name) for name in range(PRODUCERS)))
        consuming = asyncio.create_task(consume())
        await is_busy.wait()
        dead = three_members.wait_for_primary()
        dead.kill()
        is_dead.set()
        await producing
        await consuming
        dead.start()

    held = bodies(await page(storage, queue, limit=10_000, include_claimed=True))
    # A claim whose answer was lost holds its messages until it expires; they are not lost.
    kept = Counter([*claimed, *held])
    assert set(acknowledged) <= set(kept) | in_doubt
    assert max(kept.values()) == 1
    await storage.close()


async def test_without_a_majority_every_call_says_so(
    three_members: ReplicaSet, queue: QueueRef
) -> None:
    uri = three_members.uri("minority") + "&timeoutMS=700&serverSelectionTimeoutMS=300"
    three_members.wait_for_primary()
    storage = await opened(three_members.uri("minority"))
    await post(storage, queue, bodies=["a"])
    await storage.close()
    storage = await opened(uri)
    for member in three_members.members[1:]:
        member.kill()

    for call in (
        lambda: post(storage, queue, bodies=["b"]),
        lambda: claim(storage, queue),
        lambda: storage.messages.purge(queue, now=START),
        lambda: storage.queues.create(QueueRef("p", "new"), metadata={}, now=START),
        lambda: subscribe(storage, queue),
    ):
        with pytest.raises(StorageUnavailable):
            await call()

    for member in three_members.members[1:]:
        member.start()
    three_members.wait_for_primary()
    await storage.close()
