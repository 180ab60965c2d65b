"""What queues' records cost the process that keeps them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite import queues
from zaqar_notify.storage.sqlite.queues import Record

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    yield storage
    await storage.close()


async def create_queues(storage: Storage, count: int, *, metadata_bytes: int = 2) -> None:
    padding = {"padding": "x" * metadata_bytes}
    for number in range(count):
        ref = QueueRef("p1", f"q{number}")
        await storage.queues.create(ref, metadata=padding, now=NOW)


def records_in_memory() -> int:
    gc.collect()  # Other tests' leave with their stores.
    return sum(isinstance(each, Record) for each in gc.get_objects())


async def test_large_metadata_of_many_queues_does_not_stay_in_memory(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "CACHED_METADATA_BYTES", 10_000)

    await create_queues(storage, 50, metadata_bytes=1000)

    assert records_in_memory() < 25
    queue = await storage.queues.get(QueueRef("p1", "q0"))
    assert queue is not None
    assert len(queue.metadata["padding"]) == 1000


async def test_metadata_that_is_replaced_counts_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "CACHED_METADATA_BYTES", 10_000)
    await create_queues(storage, 5, metadata_bytes=100)

    for _ in range(100):
        await storage.queues.update(QueueRef("p1", "q0"), lambda metadata: metadata)

    assert records_in_memory() >= 5


async def test_a_list_that_looks_at_much_lets_others_have_turns(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_queues(storage, 50)
    monkeypatch.setattr(queues, "LOOKED_AT_BYTES", 1)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    found = await storage.queues.list("p1", marker=None, limit=10, metadata_equals={"no": "such"})
    listed_in_turns = turns
    count = await storage.queues.count("p1", metadata_equals={"no": "such"})
    others.cancel()

    assert (found, count) == ([], 0)
    assert listed_in_turns >= 40
    assert turns - listed_in_turns >= 40
