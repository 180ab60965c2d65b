"""Pools and flavors by python-zaqarclient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zaqarclient.queues import client as zaqarclient
from zaqarclient.transport import errors

from tests.service import Service

pytestmark = [
    pytest.mark.client("zaqarclient 4"),
    # The library never closes its `requests` sessions.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("pools") / "data"
    service = Service(
        data, environ={"ZAQAR_ADMIN_MODE": "true", "ZAQAR_DEFAULT_PROJECT": "operators"}
    )
    service.start()
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


def test_the_calls_of_python_zaqarclient(service: Service, tmp_path: Path) -> None:
    client = connect(service.url)
    uri = f"sqlite://{tmp_path}/store.db"

    pool = client.pool("files", uri=uri, weight=10, options={"a": 1})
    flavor = client.flavor("durable", pool_list=["files"])
    pool.update({"weight": 5})
    flavor.update({"pool_list": ["files"]})

    assert client.pool("files", auto_create=False).get()["weight"] == 5
    assert [(each.name, each.flavor) for each in client.pools()] == [("files", "durable")]
    assert [each.options for each in client.pools(detailed=True)] == [{"a": 1}]
    assert flavor.get()["capabilities"] == ["FIFO", "CLAIMS", "DURABILITY", "AOD"]
    assert [(each.name, each.pool_list) for each in client.flavors()] == [("durable", ["files"])]
    with pytest.raises(errors.ForbiddenError, match="is used by flavors durable"):
        pool.delete()
    flavor.delete()
    queue = client.queue("jobs", force_create=True)
    queue.post([{"body": "first", "ttl": 300}])
    assert [message.body for message in queue.messages(echo=True)] == ["first"]
    with pytest.raises(errors.ForbiddenError, match="such as 'jobs'"):
        pool.delete()
    queue.delete()
    pool.delete()
    with pytest.raises(errors.ResourceNotFound):
        pool.get()


def connect(url: str) -> Any:
    auth = {"backend": "noauth", "options": {"os_project_id": "p1"}}
    return zaqarclient.Client(url, version=2, conf={"auth_opts": auth})
