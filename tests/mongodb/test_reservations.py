"""Reservations are durable: no fail-over gives a block to two writers, or a post another place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.contract.steps import (
    OUTBOX,
    bodies,
    claim,
    everything,
    idempotency_key,
    ids,
    page,
    post,
    subscribe,
)
from tests.mongod import ReplicaSet
from tests.mongodb.commands import Command, Commands
from tests.mongodb.opened import opened
from tests.mongodb.stops import (
    before_taking_back,
    set_deadline,
    stopped_at_insert,
    stopped_post,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Posted, QueueRef
from zaqar_notify.storage.mongodb.reserving import MANY_QUEUES
from zaqar_notify.storage.planes import Storage

# The library leaves connections behind whose making was cut short; they go with the garbage.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MAJORITY = {"w": "majority", "j": True}
IN_TIME_SECONDS = 60


@pytest.fixture
async def on_three(three_members: ReplicaSet) -> AsyncIterator[tuple[Storage, Storage]]:
    """The stores of two processes on a set whose members can be killed."""
    three_members.wait_for_primary()
    uri = three_members.uri("reservations")
    storage, other_storage = await opened(uri), await opened(uri)
    yield storage, other_storage
    await storage.close()
    await other_storage.close()


async def test_a_post_whose_primary_dies_before_its_insert_keeps_its_place(
    three_members: ReplicaSet,
    on_three: tuple[Storage, Storage],
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next primary knows its block: no reader passes it, and later posts come behind it."""
    set_deadline(monkeypatch, 1000 * IN_TIME_SECONDS)
    storage, other_storage = on_three
    await post(storage, queue, bodies=["a"])
    async with (
        asyncio.timeout(IN_TIME_SECONDS),
        stopped_post(storage, queue, bodies=["b"]) as (stopped, posting),
        primary_killed(three_members),
    ):
        await post(other_storage, queue, bodies=["c"])
        reading = asyncio.create_task(page(other_storage, queue))
        done, _ = await asyncio.wait([reading], timeout=0.2)

        assert done == set()
        stopped.go_on.set()
        await posting
        assert bodies(await reading) == ["a", "b", "c"]

    held = await claim(storage, queue)
    assert held is not None
    assert bodies(held) == ["a", "b", "c"]


async def test_a_post_that_comes_past_its_deadline_under_the_next_primary_is_done_anew(
    three_members: ReplicaSet,
    on_three: tuple[Storage, Storage],
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Readers have passed its place, so it comes behind them, with one job."""
    set_deadline(monkeypatch, 200)
    storage, other_storage = on_three
    await subscribe(storage, queue)
    async with (
        asyncio.timeout(IN_TIME_SECONDS),
        stopped_post(storage, queue, bodies=["b"]) as (stopped, posting),
        primary_killed(three_members),
    ):
        await post(other_storage, queue, bodies=["c"])
        passed = await page(other_storage, queue)

        stopped.go_on.set()
        posted = await posting

    late = await page(other_storage, queue, marker=passed.marker)
    assert (bodies(passed), ids(late)) == (["c"], posted.ids)
    assert len(await everything(storage, OUTBOX)) == 2


async def test_a_reservation_that_no_majority_has_is_followed_by_no_insert(
    three_members: ReplicaSet, on_three: tuple[Storage, Storage], queue: QueueRef
) -> None:
    """It dies with its primary. The post is made at the next one, or refused."""
    storage, other_storage = on_three
    await post(storage, queue, bodies=["a"])
    primary = await asyncio.to_thread(three_members.wait_for_primary)
    others = [member for member in three_members.members if member is not primary]
    for member in others:
        member.kill()
    async with asyncio.timeout(IN_TIME_SECONDS), stopped_at_insert(storage) as stopped:
        posting = asyncio.create_task(post(storage, queue, bodies=["b"]))
        await asyncio.sleep(0.5)
        assert not stopped.begun.is_set()
        stopped.go_on.set()
        primary.kill()
        for member in others:
            await asyncio.to_thread(member.start)
        await asyncio.to_thread(three_members.wait_for_primary)
        await post(other_storage, queue, bodies=["c"])
        passed = await page(other_storage, queue)
        [posted] = await asyncio.gather(posting, return_exceptions=True)
        await asyncio.to_thread(primary.start)

    rest = await page(other_storage, queue, marker=passed.marker)
    assert isinstance(posted, Posted | StorageUnavailable)
    there = ["b"] if isinstance(posted, Posted) else []
    everybody = bodies(await everything(other_storage, queue))
    assert bodies(passed) + bodies(rest) == everybody
    assert sorted(everybody) == sorted(["a", "c", *there])


async def test_a_refused_batch_forgets_no_key_that_is_of_another_post_by_now(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 200)
    again: list[Posted] = []

    async def repeat() -> None:
        again.append(await post(other_storage, queue, bodies=["a"], key=idempotency_key()))

    before_taking_back(storage, monkeypatch, repeat)
    async with stopped_post(storage, queue, bodies=["a"], key=idempotency_key()) as (stopped, slow):
        await post(other_storage, queue, bodies=["b"])
        await everything(other_storage, queue)
        stopped.go_on.set()
        posted = await slow

    assert [one.ids for one in again] == [posted.ids]
    assert bodies(await everything(storage, queue)) == ["b", "a"]


async def test_a_post_is_a_durable_reservation_and_a_durable_insert(
    commands: Commands, storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    commands.sent.clear()

    await post(storage, queue, bodies=["b"])

    assert [next(iter(command)) for command in commands.sent] == ["findAndModify", "insert"]
    assert all(is_durable(command) for command in commands.sent)


async def test_many_queues_are_reserved_durably_with_one_command(
    commands: Commands, storage: Storage, queue: QueueRef
) -> None:
    commands.sent.clear()

    await asyncio.gather(
        *(
            post(storage, QueueRef(queue.project, f"{number}"), bodies=["a"])
            for number in range(MANY_QUEUES)
        )
    )

    [reservation, *_] = [command for command in commands.sent if command.get("update") == "queues"]
    assert len(reservation["updates"]) == MANY_QUEUES
    assert is_durable(reservation)


def is_durable(command: Command) -> bool:
    return bool(command.get("writeConcern") == MAJORITY)


@asynccontextmanager
async def primary_killed(members: ReplicaSet) -> AsyncIterator[None]:
    """The primary is dead, and the others have elected another."""
    primary = await asyncio.to_thread(members.wait_for_primary)
    primary.kill()
    try:
        await asyncio.to_thread(members.wait_for_primary)
        yield
    finally:
        await asyncio.to_thread(primary.start)
