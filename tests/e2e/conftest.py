"""One running service for the suite; each test has queues of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.service import Service
from zaqar_notify.client import Client

_numbers = itertools.count()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service") / "data")
    service.start()
    yield service
    assert service.stop() == 0, service.log.read_text()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture
def queue() -> str:
    """The name of a queue that no other test uses."""
    return f"queue-{next(_numbers)}"
