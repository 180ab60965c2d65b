"""Subscriptions whose subscriber is the service itself, by every address that leads there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service import Service, free_port

DEADLINE_SECONDS = 20
FINAL = {"_retry_policy": {"minimum_delay": 5}}
"""Where a policy is set, what is refused is not tried again."""


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Service]:
    """A service that shows its metrics on a port, and may deliver to all of this host."""
    environ = {"ZAQAR_METRICS_PORT": str(free_port()), "ZAQAR_DELIVERY_ALLOW": "0.0.0.0/0,::/0"}
    service = Service(tmp_path / "data", environ=environ)
    service.start()
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


def test_no_subscription_leads_back_to_a_port_of_the_service(lone: Service) -> None:
    ports = (lone.port, _metrics_port(lone))
    subscribers = [
        f"http://{host}:{port}/v2/queues/victims/messages"
        for port in ports
        for host in ("127.0.0.1", "127.0.0.3", "localhost", "0.0.0.0", "[::1]", "[::ffff:7f00:1]")
    ]
    subscriptions = [
        _call(
            lone,
            "POST",
            "/v2/queues/q/subscriptions",
            {"subscriber": one, "options": FINAL},
        )["subscription_id"]
        for one in subscribers
    ]

    _call(lone, "POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]})

    details = {_undelivered(lone, subscription)["detail"] for subscription in subscriptions}
    assert details == {
        "deliveries may not reach this service itself; a queue: subscriber can",
    }


def _undelivered(service: Service, subscription: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        path = f"/v2/queues/q/subscriptions/{subscription}/undelivered"
        if records := _call(service, "GET", path)["undelivered"]:
            return records[0]
        time.sleep(0.05)
    raise AssertionError(f"Nothing was given up:\n{service.log.read_text()}")


def _metrics_port(service: Service) -> int:
    [line] = [line for line in service.log.read_text().splitlines() if "metrics_served" in line]
    [port] = [word for word in line.split() if word.startswith("port=")]
    return int(port.removeprefix("port="))


def _call(service: Service, method: str, path: str, document: object = None) -> Any:
    headers = {"Client-ID": uuid.uuid4().hex, "X-Project-ID": "p1"}
    reply = requests.request(
        method, service.url + path, json=document, headers=headers, timeout=DEADLINE_SECONDS
    )
    assert reply.ok, reply.text
    return reply.json()
