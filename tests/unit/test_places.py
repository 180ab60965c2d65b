"""A process finds each queue, and follows one that moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.steps import post
from tests.pools import open_pooled, put_on
from zaqar_notify.delivery import InternalPost
from zaqar_notify.models import DeadLetter, NewMessage, QueueRef
from zaqar_notify.storage import places
from zaqar_notify.storage.base import Carrier, HeadMissing
from zaqar_notify.storage.internal import pushed_ref
from zaqar_notify.storage.letters import Letters
from zaqar_notify.storage.planes import Storage

QUEUE = QueueRef("project1", "orders")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    pools = {"other": f"sqlite:///{tmp_path}/two.db"}
    storage = await open_pooled(f"sqlite:///{tmp_path}/one.db", pools)
    await put_on(storage, QUEUE, "default")
    yield storage
    await storage.close()


async def thaw_on_other(storage: Storage) -> None:
    """End a move of the queue to the other pool."""
    assert await storage.control.catalogue.move(QUEUE, "default", "other")
    storage.places.thaw(QUEUE, "other")


async def test_an_operation_waits_while_a_queue_is_frozen_and_goes_on_where_it_is_then(
    storage: Storage,
) -> None:
    await storage.places.freeze(QUEUE, "default")
    waiting = asyncio.create_task(post(storage, QUEUE, bodies=["a"]))
    await asyncio.sleep(0)

    await thaw_on_other(storage)
    await waiting

    for pool, total in {"default": 0, "other": 1}.items():
        stats = await storage.pools[pool].messages.stats(QUEUE, now=START)
        assert stats.total == total


async def test_a_freeze_ends_when_the_operations_under_way_have(storage: Storage) -> None:
    async with storage.at(QUEUE):
        freezing = asyncio.create_task(storage.places.freeze(QUEUE, "default"))
        await asyncio.sleep(0)
        assert not freezing.done()

    await asyncio.wait_for(freezing, timeout=10)


async def test_a_freeze_that_is_given_up_leaves_the_queue_where_it_was(storage: Storage) -> None:
    async with storage.at(QUEUE):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(storage.places.freeze(QUEUE, "default"), timeout=0.01)
    storage.places.thaw(QUEUE, "default")

    async with storage.at(QUEUE) as store:
        assert store is storage.store


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_watch_follows_a_queue_that_moves(storage: Storage, exclusive: bool) -> None:
    with storage.watch(QUEUE, exclusive=exclusive) as watch:
        waiting = asyncio.create_task(watch.changed(timeout_seconds=10))
        await asyncio.sleep(0)
        await storage.places.freeze(QUEUE, "default")

        await thaw_on_other(storage)

        assert await waiting, "the move is a wake"
        assert await watch.changed(timeout_seconds=10), "a message may have come before it"
        waiting = asyncio.create_task(watch.changed(timeout_seconds=10))
        await asyncio.sleep(0)
        await post(storage, QUEUE, bodies=["a"])
        assert await waiting


async def test_a_watch_of_a_subscription_s_own_queue_follows_the_queue(storage: Storage) -> None:
    own = pushed_ref("s1")
    with storage.watch(QUEUE, internal=own) as watch:
        await storage.places.freeze(QUEUE, "default")
        await thaw_on_other(storage)
        while await watch.changed(timeout_seconds=0.01):
            pass  # The wakes of the move.

        waiting = asyncio.create_task(watch.changed(timeout_seconds=10))
        await asyncio.sleep(0)
        record = InternalPost([NewMessage(body=b"{}", ttl=60)])
        async with storage.at(QUEUE) as store:
            await store.messages.post(own, record, now=START)

        assert await waiting


async def test_places_are_bounded_and_those_in_use_stay(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "REMEMBERED", 2)

    async with storage.at(QUEUE):
        in_use = storage.places.known(QUEUE)
        for number in range(5):
            async with storage.at(QueueRef("project1", str(number))):
                pass

        assert storage.places.known(QUEUE) is in_use


DEAD = QueueRef("project1", "dead")


def to_dead() -> DeadLetter:
    return DeadLetter(DEAD, max_claim_count=1, ttl=None)


async def test_a_dead_letter_queue_does_not_move_while_a_claim_of_its_store_moves_letters_there(
    storage: Storage,
) -> None:
    await put_on(storage, DEAD, "default")
    for ref in (QUEUE, DEAD):
        await storage.places.find(ref)

    with Letters(storage.places, QUEUE, carried_away, {DEAD: False}) as letters:
        assert letters.carry(to_dead()) is None
        freezing = asyncio.create_task(storage.places.freeze(DEAD, "default"))
        await asyncio.sleep(0)
        assert not freezing.done()

    await asyncio.wait_for(freezing, timeout=10)


async def test_where_dead_letters_go_is_asked_again_while_their_queue_moves(
    storage: Storage,
) -> None:
    await storage.places.find(QUEUE)
    with (
        Letters(storage.places, QUEUE, carried_away, {DEAD: False}) as letters,
        pytest.raises(HeadMissing),
    ):
        letters.carry(to_dead())  # It is not known where that is.
    await put_on(storage, DEAD, "default")
    await storage.places.find(DEAD)
    await storage.places.freeze(DEAD, "default")
    with (
        Letters(storage.places, QUEUE, carried_away, {DEAD: False}) as letters,
        pytest.raises(HeadMissing),
    ):
        letters.carry(to_dead())

    storage.places.thaw(DEAD, "other")

    with Letters(storage.places, QUEUE, carried_away, {DEAD: False}) as letters:
        assert letters.carry(to_dead()) is CARRIER


CARRIER = Carrier(DEAD, lambda leaving: leaving.message)


def carried_away(to: DeadLetter) -> Carrier:
    return CARRIER
