"""A MongoDB server that tests of this package may kill."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.mongod import Mongod, ReplicaSet, require_mongod
from zaqar_notify.clock import new_id
from zaqar_notify.storage import open_pools

SELECTION_MS = 300
"""So soon the driver gives up a server that is down."""


@pytest.fixture(scope="package")
def other_set() -> Iterator[ReplicaSet]:
    require_mongod()
    servers = ReplicaSet()
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def other_uri(other_set: ReplicaSet) -> str:
    """An empty database on it."""
    uri = other_set.uri(f"test_{new_id()}")
    return f"{uri}&serverSelectionTimeoutMS={SELECTION_MS}&timeoutMS={10 * SELECTION_MS}"


@pytest.fixture
def other_server(other_set: ReplicaSet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mongod]:
    """It runs again after the test. Meanwhile pools are looked at often."""
    monkeypatch.setattr(open_pools, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(open_pools, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(open_pools, "ANSWER_SECONDS", 1.0)
    [server] = other_set.members
    yield server
    if server.process is None:
        server.start()
        other_set.wait_for_primary()
    # Connections that were being made when the server died are left to the garbage collector by the library.
    gc.collect()
