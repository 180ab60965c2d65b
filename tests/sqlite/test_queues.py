"""The cost of long lists of queues for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zaqar_notify.clock import new_id
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite import records

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


async def create_queues(storage: Storage, project: str, count: int) -> None:
    for number in range(count):
        await storage.queues.create(QueueRef(project, f"q{number}"), metadata={}, now=NOW)


async def test_a_list_that_looks_at_much_lets_others_have_turns(
    storage: Storage, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_queues(storage, project, 50)
    monkeypatch.setattr(records, "LOOKED_AT_BYTES", 1)
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
