"""Fixtures of the engine's tests: the real SQLite store, a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import ManualClock
from tests.workers.office import Office
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = await open_storage(f"sqlite:///{tmp_path}/store.db")
    yield storage
    await storage.close()


@pytest.fixture
def office(storage: Storage, clock: ManualClock) -> Office:
    return Office(storage, clock, Settings(retry_jitter=0))
