"""Reservations wait for no majority: what becomes of a post whose reservation the next primary lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bson import Int64
from pymongo.topology_description import TOPOLOGY_TYPE

from tests.clock import START
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
from tests.mongodb.stops import (
    before_taking_back,
    kill_in_insert,
    set_deadline,
    set_term,
    stopped_at_insert,
    stopped_post,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Posted, QueueRef
from zaqar_notify.storage.mongodb import MongoStorage, connection
from zaqar_notify.storage.mongodb.connection import hides_primary
from zaqar_notify.storage.mongodb.documents import queue_key
from zaqar_notify.storage.mongodb.reserving import MANY_QUEUES

# The library leaves connections behind whose making was cut short; they go with the garbage.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FAR = Int64(2**62)
"""A position that no clock has come to: there, a block begins where the one before it ends."""
MAJORITY = {"w": "majority", "j": True}
IN_TIME_SECONDS = 60


@pytest.fixture
async def on_three(three_members: ReplicaSet) -> AsyncIterator[tuple[MongoStorage, MongoStorage]]:
    """The stores of two processes on a set whose members can be killed."""
    three_members.wait_for_primary()
    uri = three_members.uri("terms")
    storage, other_storage = await MongoStorage.open(uri), await MongoStorage.open(uri)
    yield storage, other_storage
    await storage.close()
    await other_storage.close()


async def test_a_post_whose_reservation_died_with_the_primary_keeps_its_place(
    three_members: ReplicaSet,
    on_three: tuple[MongoStorage, MongoStorage],
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The news of the election is what tells its writer to look."""
    set_term(monkeypatch, 10 * IN_TIME_SECONDS)
    storage, _ = on_three
    await post(storage, queue, bodies=["a"])

    await post_over_an_election(storage, three_members, queue, body="b")

    assert bodies(await page(storage, queue)) == ["a", "b"]
    await post(storage, queue, bodies=["c"])
    assert bodies(await everything(storage, queue)) == ["a", "b", "c"]


async def test_a_post_that_comes_behind_others_under_the_next_primary_is_refused_and_gone(
    three_members: ReplicaSet, on_three: tuple[MongoStorage, MongoStorage], queue: QueueRef
) -> None:
    """Readers may have passed its place."""
    storage, other_storage = on_three
    await post(storage, queue, bodies=["a"])

    with pytest.raises(StorageUnavailable, match="the primary changed"):
        await post_over_an_election(
            storage,
            three_members,
            queue,
            body="b",
            meanwhile=lambda: post(other_storage, queue, bodies=["c"]),
        )

    assert bodies(await page(storage, queue)) == ["a", "c"]
    await post(storage, queue, bodies=["d"])
    held = await claim(other_storage, queue)
    assert held is not None
    assert bodies(held) == ["a", "c", "d"]


async def test_a_post_that_is_refused_leaves_no_job(
    storage: MongoStorage,
    other_storage: MongoStorage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_term(monkeypatch, 0)
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["a"])
    async with reservation_lost(storage, queue, body="b") as posting:
        await post(other_storage, queue, bodies=["c"])

    with pytest.raises(StorageUnavailable):
        await posting

    assert bodies(await everything(storage, queue)) == ["a", "c"]
    assert len(await everything(storage, OUTBOX)) == 2


@pytest.mark.parametrize(
    "change",
    [
        subscribe,
        lambda storage, queue: storage.queues.update(queue, lambda _: {"max_messages": 1}),
    ],
    ids=["subscription", "metadata"],
)
async def test_a_post_is_refused_when_the_queue_is_not_what_its_lost_reservation_showed(
    storage: MongoStorage,
    other_storage: MongoStorage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[MongoStorage, QueueRef], Awaitable[object]],
) -> None:
    """It lacks a job, or broke a rule that was made meanwhile."""
    set_term(monkeypatch, 0)
    await post(storage, queue, bodies=["a"])
    async with reservation_lost(storage, queue, body="b") as posting:
        await change(other_storage, queue)

    with pytest.raises(StorageUnavailable):
        await posting

    assert bodies(await everything(storage, queue)) == ["a"]


async def test_a_post_in_doubt_whose_reservation_is_there_is_acknowledged(
    storage: MongoStorage,
    other_storage: MongoStorage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_term(monkeypatch, 0)
    async with stopped_post(storage, queue, bodies=["a"]) as (stopped, posting):
        await post(other_storage, queue, bodies=["b"])
        stopped.go_on.set()
        posted = await posting

    everybody = await everything(other_storage, queue)
    assert bodies(everybody) == ["a", "b"]
    assert ids(everybody)[:1] == posted.ids


async def test_a_post_whose_block_another_was_given_takes_nothing_of_that(
    storage: MongoStorage,
    other_storage: MongoStorage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first place is free again, and the other's second message has the next. Its seal stays one."""
    set_term(monkeypatch, 0)
    await post_far_ahead(storage, queue, body="a")
    two = ["early 1", "early 2"]
    async with reservation_lost(storage, queue, body="late", count=3) as posting:
        first = await post(other_storage, queue, bodies=two, key=idempotency_key())
        await other_storage.messages.delete(queue, first.ids[0], claim_id=None, now=START)

    late = await posting
    again = await post(storage, queue, bodies=two, key=idempotency_key())

    assert again.ids == first.ids
    assert min(late.ids) > max(first.ids)
    everybody = bodies(await everything(storage, queue))
    assert everybody == ["a", "early 2", "late", "late", "late"]


async def test_a_key_does_not_believe_the_seal_of_another_writer_in_its_block(
    storage: MongoStorage,
    other_storage: MongoStorage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That writer's reservation was lost, and its block given to the post under the key."""
    set_deadline(monkeypatch, 200)
    set_term(monkeypatch, 0)
    await post_far_ahead(storage, queue, body="a")
    async with reservation_lost(storage, queue, body="lost") as posting:
        dying = post(other_storage, queue, bodies=["b"], key=idempotency_key())
        await kill_in_insert(other_storage, dying, behind=1)
    with pytest.raises(StorageUnavailable):
        await posting

    posted = await post(storage, queue, bodies=["b"], key=idempotency_key())

    assert bodies(await everything(storage, queue)) == ["a", "b"]
    assert ids(await everything(storage, queue))[1:] == posted.ids


async def test_a_writer_that_is_given_its_lost_block_again_has_no_seal_in_it(
    storage: MongoStorage,
    other_storage: MongoStorage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 200)
    set_term(monkeypatch, 0)
    await post_far_ahead(storage, queue, body="a")
    async with reservation_lost(storage, queue, body="lost") as posting:
        await subscribe(other_storage, queue)
    with pytest.raises(StorageUnavailable):
        await posting
    dying = post(storage, queue, bodies=["b"], key=idempotency_key())
    await kill_in_insert(storage, dying, behind=1)

    posted = await post(other_storage, queue, bodies=["b"], key=idempotency_key())

    assert bodies(await everything(storage, queue)) == ["a", "b"]
    assert ids(await everything(storage, queue))[1:] == posted.ids


async def test_readers_do_not_wait_for_a_block_that_is_refused_for_the_seal_of_another(
    storage: MongoStorage,
    other_storage: MongoStorage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is of a writer whose reservation of the block was lost."""
    set_deadline(monkeypatch, 1000 * 2 * IN_TIME_SECONDS)
    set_term(monkeypatch, 0)
    await post_far_ahead(storage, queue, body="a")
    async with stopped_at_insert(other_storage) as stopped:
        async with reservation_lost(storage, queue, body="lost") as lost:
            posting = asyncio.create_task(post(other_storage, queue, bodies=["b"]))
            await stopped.begun.wait()
        with pytest.raises(StorageUnavailable):
            await lost
        monkeypatch.setattr(connection.Term, "has_lasted", True)
    await posting

    async with asyncio.timeout(IN_TIME_SECONDS):
        assert bodies(await page(storage, queue)) == ["a", "b"]


async def test_a_refused_group_forgets_no_key_that_is_of_another_post_by_now(
    storage: MongoStorage,
    other_storage: MongoStorage,
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


async def test_a_post_waits_for_the_majority_once(
    commands: Commands, storage: MongoStorage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A word of a monitor that comes just then has the writer look once more.
    monkeypatch.setattr(connection.Term, "has_lasted", True)
    await post(storage, queue, bodies=["a"])
    commands.sent.clear()

    await post(storage, queue, bodies=["b"])

    assert [next(iter(command)) for command in commands.sent] == ["findAndModify", "insert"]
    assert [waits(command) for command in commands.sent] == [False, True]


async def test_a_reservation_under_a_key_is_durable(
    commands: Commands, storage: MongoStorage, queue: QueueRef
) -> None:
    """Others answer as the post was, even when its process ends."""
    commands.sent.clear()

    await post(storage, queue, bodies=["a"], key=idempotency_key())

    [reservation] = [command for command in commands.sent if "findAndModify" in command]
    assert waits(reservation)


async def test_a_reservation_through_one_member_is_durable(
    commands: Commands, uri: str, queue: QueueRef
) -> None:
    """Asked by its address, it does not say when another is the primary."""
    storage = await MongoStorage.open(uri + "&directConnection=true")
    commands.sent.clear()

    await post(storage, queue, bodies=["a"])

    await storage.close()
    [reservation] = [command for command in commands.sent if "findAndModify" in command]
    assert waits(reservation)


def test_only_a_client_of_a_replica_set_sees_its_primary() -> None:
    kinds = TOPOLOGY_TYPE._fields

    assert [kind for kind in kinds if not hides_primary(kind)] == [
        "ReplicaSetNoPrimary",
        "ReplicaSetWithPrimary",
    ]


async def test_many_queues_are_reserved_durably(
    commands: Commands, storage: MongoStorage, queue: QueueRef
) -> None:
    """What is read of them must not be from before."""
    commands.sent.clear()

    await asyncio.gather(
        *(
            post(storage, QueueRef(queue.project, f"{number}"), bodies=["a"])
            for number in range(MANY_QUEUES)
        )
    )

    [reservation, *_] = [command for command in commands.sent if command.get("update") == "queues"]
    assert len(reservation["updates"]) == MANY_QUEUES
    assert waits(reservation)


def waits(command: Command) -> bool:
    return bool(command.get("writeConcern") == MAJORITY)


async def post_far_ahead(storage: MongoStorage, queue: QueueRef, *, body: str) -> None:
    """From now on, who reserves after a reservation that was lost is given its very block."""
    await post(storage, queue, bodies=[body])
    await storage._connection.queues.update_one({"_id": queue_key(queue)}, {"$set": {"next": FAR}})


async def nothing() -> None:
    pass


async def post_over_an_election(
    storage: MongoStorage,
    members: ReplicaSet,
    queue: QueueRef,
    *,
    body: str,
    meanwhile: Callable[[], Awaitable[object]] = nothing,
) -> Posted:
    """A post that reserves at a primary nobody hears any more, and inserts at the next."""
    primary = await asyncio.to_thread(members.wait_for_primary)
    others = [member for member in members.members if member is not primary]
    for member in others:
        member.kill()
    async with asyncio.timeout(IN_TIME_SECONDS), stopped_at_insert(storage) as stopped:
        posting = asyncio.create_task(post(storage, queue, bodies=[body]))
        await stopped.begun.wait()
        primary.kill()
        for member in others:
            await asyncio.to_thread(member.start)
        await asyncio.to_thread(members.wait_for_primary)
        await meanwhile()
        stopped.go_on.set()
        try:
            return await posting
        finally:
            await asyncio.to_thread(primary.start)


@asynccontextmanager
async def reservation_lost(
    storage: MongoStorage, queue: QueueRef, *, body: str, count: int = 1
) -> AsyncIterator[asyncio.Task[Posted]]:
    """A post that goes on at the end of the block, its reservation undone as by an election."""
    queues: Any = storage._connection.queues
    before = await queues.find_one({"_id": queue_key(queue)})
    async with stopped_post(storage, queue, bodies=[body] * count) as (stopped, posting):
        await queues.replace_one({"_id": queue_key(queue)}, before)
        yield posting
        stopped.go_on.set()
        await asyncio.wait((posting,))
