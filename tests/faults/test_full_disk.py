"""A process whose disk is full, as clients see it, until there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.service import Service
from tests.small_disk import fill, small_disk

HEADERS = {"Client-ID": "0" * 32, "X-Project-ID": "demo"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with small_disk(tmp_path / "disk", megabytes=40) as disk:
        service = Service(disk / "data")
        service.log = tmp_path / "log"
        service.start()
        yield service
        assert service.stop() == 0
        assert "Traceback" not in service.log.read_text()


def ask(service: Service, method: str, path: str, document: object = None) -> requests.Response:
    return requests.request(method, service.url + path, json=document, headers=HEADERS, timeout=10)


def post(service: Service, size: int) -> requests.Response:
    document = {"messages": [{"body": "x" * size, "ttl": 3600}]}
    return ask(service, "POST", "/v2/queues/q/messages", document)


def test_clients_are_told_and_can_make_room(service: Service) -> None:
    posted = 0
    while (refused := post(service, 250_000)).status_code == 201:
        posted += 1

    claimed = ask(service, "POST", "/v2/queues/q/claims?limit=1", {"ttl": 300, "grace": 60})
    popped = ask(service, "DELETE", "/v2/queues/q/messages?pop=1")
    small = post(service, 1)
    ready = ask(service, "GET", "/readyz")
    purged = ask(service, "POST", "/v2/queues/q/purge", {"resource_types": ["messages"]})
    while post(service, 250_000).status_code == 503:
        continue

    assert posted > 50
    assert refused.status_code == small.status_code == 503
    assert "The store is full" in refused.json()["description"]
    assert "Retry-After" in refused.headers
    assert (claimed.status_code, popped.status_code, purged.status_code) == (201, 200, 204)
    assert ready.status_code == 200
    assert "action=disk_full" in service.log.read_text()


def test_room_that_others_make_is_used(service: Service) -> None:
    assert post(service, 250_000).status_code == 201
    others = fill(service.data.parent)
    while post(service, 250_000).status_code == 201:
        continue

    others.unlink()

    assert post(service, 250_000).status_code == 201
