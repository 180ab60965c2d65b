"""One suite, every driver: add a driver to `DRIVERS`, with the URI of an empty store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.mongod import emptied_mongo_uri
from tests.mongodb.commands import Commands
from tests.mongodb.routing import goes_astray
from tests.redis_server import redis_uri
from zaqar_notify.clock import new_id
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import driver_of, open_storage


def sqlite_uri(directory: Path) -> str:
    return f"sqlite:///{directory}/store.db"


DRIVERS: dict[str, Callable[[Path], str]] = {
    "sqlite": sqlite_uri,
    "mongodb": emptied_mongo_uri,
    "redis": redis_uri,
}


@pytest.fixture(params=DRIVERS)
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of a store that is this test's own, of a driver with the capabilities that the test needs."""
    uri_of_empty_store = DRIVERS[request.param]
    uri = uri_of_empty_store(tmp_path)
    needed = {each for mark in request.node.iter_markers("needs") for each in mark.args}
    if missing := needed - driver_of(uri).capabilities:
        pytest.skip(f"the driver has no {', '.join(sorted(missing))}")
    return uri


@pytest.fixture(autouse=True)
def _commands_to_mongodb_find_their_shard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    commands = Commands()
    commands.listen(monkeypatch)
    yield
    assert [command for command in commands.sent if goes_astray(command)] == []


@pytest.fixture
async def storage(store_uri: str) -> AsyncIterator[Storage]:
    storage = await open_storage(store_uri)
    yield storage
    await storage.close()


@pytest.fixture
def queue() -> QueueRef:
    """An unused queue, in a project of its own."""
    return QueueRef(project=f"project-{new_id()}", name="orders")


@pytest.fixture
def other_queue(queue: QueueRef) -> QueueRef:
    """Another queue of the same project."""
    return QueueRef(project=queue.project, name="invoices")
