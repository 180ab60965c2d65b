"""Where a process finds a queue, and how it follows one that moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.steps import post
from zaqar_notify.models import QueueRef
from zaqar_notify.storage import places
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

QUEUE = QueueRef("project1", "orders")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    default = await open_storage(f"sqlite:///{tmp_path}/one.db")
    other = await open_storage(f"sqlite:///{tmp_path}/two.db")
    storage = Storage(default.control, default.store, others={"other": other.store})
    yield storage
    await storage.close()
    await other.close()


async def test_an_operation_waits_while_a_queue_is_frozen_and_goes_on_where_it_is_then(
    storage: Storage,
) -> None:
    await storage.places.freeze(QUEUE, "default")
    waiting = asyncio.create_task(post(storage, QUEUE, bodies=["a"]))
    await asyncio.sleep(0)

    storage.places.thaw(QUEUE, "other")
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

        storage.places.thaw(QUEUE, "other")

        assert await waiting, "the move is a wake"
        assert await watch.changed(timeout_seconds=10), "a message may have come before it"
        waiting = asyncio.create_task(watch.changed(timeout_seconds=10))
        await asyncio.sleep(0)
        await post(storage, QUEUE, bodies=["a"])
        assert await waiting


async def test_places_are_bounded_and_those_in_use_stay(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "REMEMBERED", 2)
    in_use = storage.at(QUEUE)

    async with in_use:
        for number in range(5):
            async with storage.at(QueueRef("project1", str(number))):
                pass

        assert storage.at(QUEUE) is in_use
