"""Processes that share their stores let a queue stand still together, and none uses it where it is no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import pytest

from tests.clock import START, ManualClock
from tests.contract.steps import bodies, idempotency_key, post
from tests.mongod import beside, mongo_uri
from tests.moving.steps import TARGET, ask, messages_of, pool_of
from tests.pools import open_pooled
from tests.workers.office import until
from zaqar_notify.clock import new_id
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.moving import members, notices
from zaqar_notify.storage.moving.runner import carry_out_next
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


@pytest.fixture
async def processes(clock: ManualClock) -> AsyncIterator[list[Storage]]:
    """The storages of three processes of a cluster that has two pools."""
    uri = mongo_uri()
    opened = [await open_pooled(uri, {TARGET: beside(uri)})]
    opened += [await open_storage(uri) for _ in range(2)]
    for storage in opened:
        storage.clock = clock
        # The pool was registered long ago.
        storage.open_pools.without_pools_until = 0.0
    yield opened
    for storage in opened:
        await storage.close()


@pytest.fixture
def queue() -> QueueRef:
    return QueueRef(new_id(), "orders")


async def move(storage: Storage, queue: QueueRef, target: str, clock: ManualClock) -> None:
    await ask(storage, queue, target)
    async with asyncio.timeout(60):
        await carry_out_next(storage, clock)


async def test_posts_of_all_processes_go_on_while_a_queue_moves_to_and_fro(
    processes: list[Storage], queue: QueueRef, clock: ManualClock
) -> None:
    *users, mover = processes
    posted: list[list[str]] = [[] for _ in users]
    is_over = False

    async def produce(storage: Storage, own: list[str]) -> None:
        while not is_over:
            body = f"{len(own)} of {id(storage)}"
            # A process that the machine gives no time loses its right for a moment.
            with suppress(StorageUnavailable):
                await post(storage, queue, bodies=[body], key=idempotency_key(body))
                own.append(body)

    producing = [asyncio.create_task(produce(*pair)) for pair in zip(users, posted, strict=True)]
    await until(lambda: all(posted))
    for target in (TARGET, "default"):
        await move(mover, queue, target, clock)
        wanted = max(map(len, posted)) + 1
        await until(partial(all_have, wanted, posted))
        assert await pool_of(mover, queue) == target
    is_over = True
    await asyncio.gather(*producing)

    found = bodies(await messages_of(users[0], queue))
    for own in posted:
        assert [body for body in found if body in set(own)] == own
    assert len(found) == sum(map(len, posted))


def all_have(count: int, posted: list[list[str]]) -> bool:
    return all(len(own) >= count for own in posted)


async def test_an_operation_that_lasts_has_the_attempt_given_up(
    processes: list[Storage], queue: QueueRef, clock: ManualClock
) -> None:
    user, other, mover = processes
    await post(user, queue, bodies=["a"])
    await post(other, queue, bodies=["b"])
    async with user.at(queue):
        moving = asyncio.create_task(move(mover, queue, TARGET, clock))
        place = other.places.known(queue)
        assert place is not None
        await until(lambda: not place.is_open)
        await until(lambda: place.is_open)
        assert await pool_of(mover, queue) == "default"
        await post(other, queue, bodies=["c"])

    await moving

    assert await pool_of(mover, queue) == TARGET
    assert bodies(await messages_of(other, queue)) == ["a", "b", "c"]


async def test_a_gate_opens_by_itself_when_the_mover_is_gone(
    processes: list[Storage],
    queue: QueueRef,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(members, "HELD_UP_SECONDS", 0.3)
    user, _, mover = processes
    await post(user, queue, bodies=["a"])
    catalogue = mover.control.catalogue
    await catalogue.place(queue, "default", now=START)
    await catalogue.let(queue, "default", "attempt")

    await mover.gates.close(queue, "default", "attempt")
    await post(user, queue, bodies=["b"])

    assert not await catalogue.move(queue, "default", TARGET, attempt="attempt")
    assert bodies(await messages_of(user, queue)) == ["a", "b"]


async def test_a_process_that_joins_finds_the_gate_closed(
    processes: list[Storage], queue: QueueRef, clock: ManualClock
) -> None:
    user, late, mover = processes
    await post(user, queue, bodies=["a"])
    await mover.gates.close(queue, "default", "attempt")

    posting = asyncio.create_task(post(late, queue, bodies=["b"]))
    place_of = late.places.known
    await until(lambda: (place := place_of(queue)) is not None and not place.is_open)
    assert not posting.done()
    await mover.gates.open(queue, "default", "default", "attempt")

    await posting
    assert bodies(await messages_of(user, queue)) == ["a", "b"]


async def test_a_process_that_was_held_up_acknowledges_nothing_and_finds_the_queue_again(
    processes: list[Storage],
    queue: QueueRef,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleeper, user, mover = processes
    await post(sleeper, queue, bodies=["a"])
    asleep = asyncio.Event()
    awake = asyncio.Event()

    async def post_and_sleep() -> None:
        async with sleeper.at(queue) as store:
            asleep.set()
            await awake.wait()
            await store.messages.stats(queue, now=START)

    sleeping = asyncio.create_task(post_and_sleep())
    await asleep.wait()
    fall_asleep(sleeper, monkeypatch)
    await notices.live(mover.store, name_of(sleeper), lives=False)
    await move(mover, queue, TARGET, clock)
    awake.set()

    with pytest.raises(StorageUnavailable):
        await sleeping
    assert bodies(await messages_of(sleeper, queue)) == ["a"]
    await post(sleeper, queue, bodies=["b"])
    assert bodies(await messages_of(user, queue)) == ["a", "b"]


def name_of(storage: Storage) -> str:
    """Under which the process says that it uses the default pool."""
    assert isinstance(storage.membership, members.Members)
    return storage.membership.member("default").name


def fall_asleep(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the process hears of nothing, as if it were stopped, until its lease has lapsed."""
    assert isinstance(storage.membership, members.Members)
    member = storage.membership.member("default")
    assert member.following is not None
    member.following.cancel()
    member.following = None
    member.leased_until = 0.0
