"""One running service for all client libraries; each test has a project of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.caller import Caller
from tests.service import Service
from zaqar_notify.clock import new_id


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("clients") / "data")
    service.start()
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
def project() -> str:
    return f"project-{new_id()}"


@pytest.fixture
def caller(service: Service, project: str) -> Iterator[Caller]:
    with Caller(service.url, project) as caller:
        yield caller
