"""What queues' records cost the process that keeps them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zaqar_notify.clock import new_id
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


@pytest.fixture
def project() -> str:
    """A project of this test alone: other tests' stores may still be in memory."""
    return new_id()


async def create_queues(
    storage: Storage, project: str, count: int, *, metadata_bytes: int = 2
) -> None:
    padding = {"padding": "x" * metadata_bytes}
    for number in range(count):
        ref = QueueRef(project, f"q{number}")
        await storage.queues.create(ref, metadata=padding, now=NOW)


def records_in_memory(project: str) -> int:
    gc.collect()
    # By its exact type: what only passes for something else, as Celery's proxies do, would wake up.
    records = [each for each in gc.get_objects() if type(each) is Record]
    return sum(record.queue.ref.project == project for record in records)


async def test_large_metadata_of_many_queues_does_not_stay_in_memory(
    storage: Storage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "CACHED_METADATA_BYTES", 10_000)

    await create_queues(storage, project, 50, metadata_bytes=1000)

    assert records_in_memory(project) < 25
    queue = await storage.queues.get(QueueRef(project, "q0"))
    assert queue is not None
    assert len(queue.metadata["padding"]) == 1000


async def test_metadata_that_is_replaced_counts_once(
    storage: Storage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "CACHED_METADATA_BYTES", 10_000)
    await create_queues(storage, project, 5, metadata_bytes=100)

    for _ in range(100):
        await storage.queues.update(QueueRef(project, "q0"), lambda metadata: metadata)

    assert records_in_memory(project) >= 5


async def test_a_list_that_looks_at_much_lets_others_have_turns(
    storage: Storage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_queues(storage, project, 50)
    monkeypatch.setattr(queues, "LOOKED_AT_BYTES", 1)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    found = await storage.queues.list(
        project, marker=None, limit=10, metadata_equals={"no": "such"}
    )
    listed_in_turns = turns
    count = await storage.queues.count(project, metadata_equals={"no": "such"})
    others.cancel()

    assert (found, count) == ([], 0)
    assert listed_in_turns >= 40
    assert turns - listed_in_turns >= 40
