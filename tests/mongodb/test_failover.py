"""The primary dies: acknowledged writes are there once, and impossible ones are refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from tests.clock import START
from tests.contract.steps import bodies, claim, ids, page, post, subscribe
from tests.mongod import ReplicaSet
from tests.mongodb.opened import opened
from zaqar_notify.clock import new_id
from zaqar_notify.delivery import InternalPost
from zaqar_notify.errors import ClaimNotHeld, StorageUnavailable
from zaqar_notify.models import Claim, NewMessage, QueueRef

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


async def test_a_lease_that_a_fail_over_undoes_leaves_its_job_to_another_worker(
    three_members: ReplicaSet,
) -> None:
    """The lease reaches the primary alone, which dies."""
    storage = await opened(three_members.uri("undone"))
    store, outbox = storage.store, QueueRef("", "outbox.undone")
    await store.messages.post(outbox, InternalPost([NewMessage(b"1", 3600)]), now=START)

    async def lease() -> Claim | None:
        return await store.claims.create(
            outbox, claim_id=new_id(), ttl=60, grace=0, limit=1, now=START, is_durable=False
        )

    primary = three_members.wait_for_primary()
    others = [each for each in three_members.members if each is not primary]
    for member in others:
        member.kill()
    first = await lease()
    primary.kill()
    for member in others:
        member.start()

    second = None
    async with asyncio.timeout(60):
        while second is None:
            with suppress(StorageUnavailable):
                second = await lease()

    assert first is not None
    assert [each.id for each in second.messages] == [each.id for each in first.messages]
    job = second.messages[0].id
    with pytest.raises(ClaimNotHeld):
        await store.messages.delete(outbox, job, claim_id=first.id, now=START)
    await store.messages.delete(outbox, job, claim_id=second.id, now=START)
    assert await store.messages.get(outbox, [job], now=START) == []
    primary.start()
    await storage.close()
