"""A pool is removed while queues are made: no queue is ever on a pool that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.clock import START
from tests.contract.steps import bodies, post
from tests.pools import register
from zaqar_notify.errors import PoolInUse, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.pools import PoolChange, change_pool, remove_pool, usage
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered
from zaqar_notify.storage.registry import open_storage

QUEUE = QueueRef("project1", "orders")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    """With the pool `p1`, which takes all new queues."""
    storage = await open_storage(f"sqlite:///{tmp_path}/store.db")
    await register(storage, "p1", f"sqlite:///{tmp_path}/p1.db")
    yield storage
    await storage.close()


async def bodies_on(storage: Storage, ref: QueueRef) -> list[str]:
    async with storage.at(ref) as store:
        return bodies(await store.messages.page(ref, marker=None, limit=10, now=START))


async def test_a_process_that_does_not_know_yet_makes_no_queue_on_a_pool_that_is_leaving(
    storage: Storage,
) -> None:
    def leaving(before: Registered) -> Registered:
        pool = msgspec.structs.replace(before.pools["p1"], is_leaving=True)
        return msgspec.structs.replace(before, pools={"p1": pool})

    await storage.control.pools.change(leaving)

    with pytest.raises(StorageUnavailable, match="p1 was removed"):
        await storage.queues.create(QUEUE, metadata={}, now=START)
    # It knows now.
    await post(storage, QueueRef("project1", "other"), bodies=["a"])
    assert storage.pool_of(QueueRef("project1", "other")) == "default"


async def test_a_queue_that_was_not_made_on_a_pool_that_left_is_made_elsewhere(
    storage: Storage,
) -> None:
    await storage.control.pools.change(lambda before: Registered())
    with pytest.raises(StorageUnavailable):
        await post(storage, QUEUE, bodies=["refused"])

    await post(storage, QUEUE, bodies=["kept"])

    assert storage.pool_of(QUEUE) == "default"
    assert await bodies_on(storage, QUEUE) == ["kept"]


async def test_of_a_removal_and_new_queues_at_the_same_time_nothing_is_lost(
    storage: Storage, tmp_path: Path
) -> None:
    removed = 0
    for turn in range(10):
        await register(storage, "p1", f"sqlite:///{tmp_path}/p1.db")
        refs = [QueueRef(f"project{turn}", f"q{number}") for number in range(5)]

        async def remove() -> bool:
            try:
                await remove_pool(storage, "p1")
            except PoolInUse:
                return False
            return True

        async def make(ref: QueueRef, milliseconds: int) -> bool:
            await asyncio.sleep(milliseconds / 1000)
            try:
                await post(storage, ref, bodies=["kept"])
            except StorageUnavailable:
                return False
            return True

        gone, *made = await asyncio.gather(
            remove(), *(make(ref, 2 * number + 5 * turn) for number, ref in enumerate(refs))
        )

        removed += gone
        for ref, is_made in zip(refs, made, strict=True):
            if is_made:
                assert await bodies_on(storage, ref) == ["kept"], (turn, ref)
        for ref in refs:
            await storage.queues.delete(ref, now=START)

    assert removed, "no removal came first"


async def test_a_pool_that_is_registered_anew_while_it_is_removed_stays(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse, calls = usage.refuse_in_use, 0

    async def register_before_the_second_look(storage: Storage, name: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            await register(storage, "p1", f"sqlite:///{tmp_path}/p1.db", weight=7)
        await refuse(storage, name)

    monkeypatch.setattr("zaqar_notify.pools.leaving.refuse_in_use", register_before_the_second_look)

    with pytest.raises(PoolInUse, match="was changed while it was removed"):
        await remove_pool(storage, "p1")

    pool = (await storage.control.pools.read()).pools["p1"]
    assert (pool.weight, pool.is_leaving) == (7, False)


async def test_a_pool_that_gets_another_store_gets_no_queue_meanwhile(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def look(storage: Storage, name: str) -> None:
        seen.append((await storage.control.pools.read()).pools[name].is_leaving)

    monkeypatch.setattr("zaqar_notify.pools.leaving.refuse_in_use", look)
    change = PoolChange(uri=f"sqlite:///{tmp_path}/other.db")

    changed = await change_pool(storage, Settings(), "p1", change)

    assert seen == [False, True]
    assert (changed.uri, changed.is_leaving) == (change.uri, False)


async def test_what_was_posted_without_pools_stays_in_sight_when_there_are_pools_again(
    storage: Storage, tmp_path: Path
) -> None:
    """The catalogue remembers a deleted queue for a while."""
    await post(storage, QUEUE, bodies=["former"])
    await storage.queues.delete(QUEUE, now=START)
    await remove_pool(storage, "p1")

    await post(storage, QUEUE, bodies=["without pools"])
    await register(storage, "p1", f"sqlite:///{tmp_path}/p2.db")

    assert await bodies_on(storage, QUEUE) == ["without pools"]
