"""Subscribers that the service must beware of: itself, and those that echo their deliveries."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service import Service, free_port

DEADLINE_SECONDS = 20
FINAL = {"_retry_policy": {"minimum_delay": 5}}
"""With a policy of its own, a refused delivery is not tried again."""


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Service]:
    """A service that tells all, shows its metrics on a port, and may deliver to all of this host."""
    environ = {
        "ZAQAR_DELIVERY_ALLOW": "0.0.0.0/0,::/0",
        "ZAQAR_LOG_LEVEL": "debug",
        "ZAQAR_METRICS_PORT": str(free_port()),
    }
    service = Service(tmp_path / "data", environ=environ)
    service.start()
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


def test_no_subscription_leads_back_to_a_port_of_the_service(lone: Service) -> None:
    hosts = ("127.0.0.1", "127.0.0.3", "LocalHost", "a.localhost", "0.0.0.0", "[::1]")
    for port in (lone.port, _metrics_port(lone)):
        for host in (*hosts, "[::ffff:7f00:1]"):
            refused = _asked(
                lone, {"subscriber": f"http://{host}:{port}/v2/queues/victims/messages"}
            )

            assert refused.status_code == 400, host
            assert refused.json()["description"] == (
                "subscriber: deliveries may not reach this service itself; a queue: subscriber can"
            )

    assert _asked(lone, {"subscriber": f"http://localhost:{free_port()}/"}).status_code == 201


@contextmanager
def echoing() -> Iterator[int]:
    """A receiver that fails, and tells all that it was sent: in its status line, headers and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told = f"{self.headers['Authorization']} {body.decode()}"
            self.send_response(422, told)
            self.send_header("X-Echo", told)
            self.end_headers()
            self.wfile.write(told.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_receivers_echo_is_shown_to_its_project_and_not_logged(lone: Service) -> None:
    with echoing() as port:
        subscription = _call(
            lone,
            "POST",
            "/v2/queues/q/subscriptions",
            {
                "subscriber": f"http://127.0.0.1:{port}/",
                "options": FINAL | {"post_headers": {"Authorization": "hunter2"}},
            },
        )["subscription_id"]

        _call(lone, "POST", "/v2/queues/q/messages", {"messages": [{"body": "private"}]})

        detail = _undelivered(lone, subscription)["detail"]
    assert "hunter2" in detail
    assert "private" in detail
    logged = lone.log.read_text()
    assert "delivery_given_up" in logged
    assert "status=422" in logged
    assert "hunter2" not in logged
    assert "private" not in logged


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


def _asked(service: Service, subscription: object) -> requests.Response:
    return _request(service, "POST", "/v2/queues/q/subscriptions", subscription)


def _call(service: Service, method: str, path: str, document: object = None) -> Any:
    reply = _request(service, method, path, document)
    assert reply.ok, reply.text
    return reply.json()


def _request(service: Service, method: str, path: str, document: object) -> requests.Response:
    headers = {"Client-ID": uuid.uuid4().hex, "X-Project-ID": "p1"}
    return requests.request(
        method, service.url + path, json=document, headers=headers, timeout=DEADLINE_SECONDS
    )
