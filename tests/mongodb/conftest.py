"""Stores on a database of the test's own."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.mongod import ReplicaSet, mongo_uri, require_mongod
from tests.mongodb.commands import Commands
from tests.mongodb.opened import opened
from zaqar_notify.clock import new_id
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage


@pytest.fixture
def uri() -> str:
    return mongo_uri()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The commands of the stores that are opened after this: name it before `storage`."""
    commands = Commands()
    commands.listen(monkeypatch)
    return commands


@pytest.fixture
async def storage(uri: str) -> AsyncIterator[Storage]:
    storage = await opened(uri)
    yield storage
    await storage.close()


@pytest.fixture
async def other_storage(uri: str) -> AsyncIterator[Storage]:
    """Another process's store on the same database, as far as the driver can tell."""
    storage = await opened(uri)
    yield storage
    await storage.close()


@pytest.fixture(scope="module")
def three_members() -> Iterator[ReplicaSet]:
    """A set whose members a test may kill; it starts them again."""
    require_mongod()
    members = ReplicaSet(3)
    members.start()
    yield members
    members.stop()
    # The library leaves connections behind whose making was cut short; they go with the garbage.
    gc.collect()


@pytest.fixture
def queue() -> QueueRef:
    return QueueRef(project=f"project-{new_id()}", name="orders")
