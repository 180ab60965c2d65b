"""Queues of a service that runs move to other pools, and one that is killed goes on with them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.e2e.test_pools import run, told
from tests.service import Service
from zaqar_notify.client import Client

PROJECT = "shop"
SECONDS = 60
MANY = 2000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("moves")
    service = Service(
        directory / "data", environ={"ZAQAR_AUDIT": "true", "ZAQAR_ADMIN_MODE": "true"}
    )
    service.start()
    run(
        service.data,
        "pool",
        "set",
        "more",
        "--uri",
        f"sqlite://{directory}/more.db",
        "--weight",
        "0",
    )
    yield service
    assert service.stop() == 0


def bodies(client: Client, queue: str) -> list[Any]:
    found, marker = [], None
    while True:
        page = client.messages(queue, echo=True, limit=20, marker=marker)
        found += [message.body for message in page.messages]
        marker = page.marker
        if not page.messages:
            return found


def test_a_queue_moves_by_a_command_and_back_over_http(service: Service) -> None:
    with Client(service.url, PROJECT) as client:
        client.post("orders", "first")
        moved = told(service.data, "--project", PROJECT, "queue", "move", "orders", "more")
        client.post("orders", "second")

        again = call(
            service, "POST", "/v2/moves", {"project": PROJECT, "queue": "orders", "pool": "default"}
        )
        shown = until_over(service, again["href"])
        client.post("orders", "third")

        assert bodies(client, "orders") == ["first", "second", "third"]
    assert (moved["state"], moved["source"], moved["pool"]) == ("done", "default", "more")
    assert (shown["state"], shown["source"], shown["pool"]) == ("done", "more", "default")
    assert [one["pool"] for one in told(service.data, "queue", "moves")] == ["more", "default"]
    assert service.log.read_text().count("moves:create") == 2
    refused = run(
        service.data, "--project", PROJECT, "queue", "move", "orders", "none", exit_code=1
    )
    assert "Pool none does not exist" in refused.stderr


def test_a_service_that_is_killed_goes_on_with_the_move(service: Service) -> None:
    with Client(service.url, PROJECT) as client:
        posted = list(range(MANY))
        for start in range(0, MANY, 20):
            client.post("many", *posted[start : start + 20])
        asked = call(
            service, "POST", "/v2/moves", {"project": PROJECT, "queue": "many", "pool": "more"}
        )
        wait_for(lambda: call(service, "GET", asked["href"])["copied"] > 0)
        service.kill()
        service.start()

        client.post("many", MANY)
        shown = until_over(service, asked["href"])

        assert shown["state"] == "done"
        assert bodies(client, "many") == [*posted, MANY]


def test_queues_are_balanced_by_weight(service: Service) -> None:
    with Client(service.url, "balance") as client:
        for name in "abc":
            client.post(name, name)
    run(service.data, "pool", "set", "more", "--weight", "100")

    proposed = told(service.data, "rebalance")
    made = told(service.data, "rebalance", "--yes")

    assert {one["queue"] for one in proposed} >= {"a", "b", "c"}
    assert {one["pool"] for one in proposed} == {"more"}
    assert made == proposed
    with Client(service.url, "balance") as client:
        assert [bodies(client, name) for name in "abc"] == [["a"], ["b"], ["c"]]


def call(service: Service, method: str, path: str, body: object = None) -> Any:
    headers = {"X-Project-ID": PROJECT, "Client-ID": "6e8f5c2b-4a3d-4f0e-9b7a-1c2d3e4f5a6b"}
    reply = requests.request(method, f"{service.url}{path}", json=body, headers=headers, timeout=30)
    assert reply.ok, reply.text
    return reply.json()


def until_over(service: Service, href: str) -> Any:
    wait_for(lambda: call(service, "GET", href)["state"] in {"done", "failed", "cancelled"})
    return call(service, "GET", href)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
