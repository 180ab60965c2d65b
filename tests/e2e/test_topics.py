"""Topics end to end: confirmation, notification and undelivered messages carry the topic's own name."""

from __future__ import annotations

import json
import queue
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from tests.service import Service

SECONDS = 20
HEADERS = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "p1"}
PUBLIC = "https://mq.example.org"

Received = tuple[dict[str, str], dict[str, Any]]


@contextmanager
def receiver(status: int) -> Iterator[tuple[str, queue.Queue[Received]]]:
    """A webhook receiver: its URL, and the headers and bodies that it got."""
    received: queue.Queue[Received] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.put((dict(self.headers), body))
            self.send_response(200 if "WSGISubscribeURL" in body else status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_subscription_of_a_topic_is_confirmed_notified_and_recorded(tmp_path: Path) -> None:
    environ = {
        "ZAQAR_REQUIRE_CONFIRMATION": "true",
        "ZAQAR_SIGNED_URL_SECRETS": "secret",
        "ZAQAR_PUBLIC_URL": PUBLIC,
    }
    service = Service(tmp_path / "data", environ=environ)
    service.start()

    def call(method: str, path: str, body: object = None, **headers: str) -> requests.Response:
        return requests.request(
            method, service.url + path, json=body, headers=HEADERS | headers, timeout=SECONDS
        )

    def confirm(asked: dict[str, Any]) -> int:
        signature = {name: asked[name] for name in asked if name.startswith("URL-")}
        path = asked["WSGISubscribeURL"].removeprefix(PUBLIC)
        return call("PUT", path, asked["SubscribeBody"], **signature).status_code

    def messages_of(name: str, after: str = "") -> Any:
        page = call("GET", f"/v2/queues/{name}/messages?echo=true&wait=10&marker={after}")
        return page.json()["messages"]

    with receiver(status=404) as (hook, received):
        made = call(
            "POST",
            "/v2/topics/orders/subscriptions",
            {"subscriber": hook, "options": {"_retry_policy": {"minimum_delay": 5}}},
        )
        subscription = f"/v2/topics/orders/subscriptions/{made.json()['subscription_id']}"
        _, asked = received.get(timeout=SECONDS)
        relay = call("POST", "/v2/topics/orders/subscriptions", {"subscriber": "queue:orders"})
        [asked_queue] = messages_of("orders")
        confirmed = [confirm(asked), confirm(asked_queue["body"])]
        published = call(
            "POST", "/v2/topics/orders/messages", {"messages": [{"body": {"n": 1}, "ttl": 300}]}
        )
        headers, notified = received.get(timeout=SECONDS)
        relayed = messages_of("orders", after=asked_queue["id"])
        records: list[Any] = []
        while not records:
            records = call("GET", f"{subscription}/undelivered").json()["undelivered"]

    assert asked["WSGISubscribeURL"] == f"{PUBLIC}{subscription}/confirm"
    assert (asked["queue_name"], asked["Message"]) == (
        "orders",
        "You have chosen to subscribe to the topic: orders",
    )
    assert [relay.status_code, *confirmed, published.status_code] == [201, 204, 204, 201]
    assert notified == {
        "ttl": 300,
        "body": {"n": 1},
        "Message_Type": "Notification",
        "queue_name": "orders",
    }
    assert headers["Zaqar-Queue"] == "orders"
    assert [one["body"] for one in relayed] == [{"n": 1}]
    assert records[0]["payload"] == notified
    assert call("GET", subscription).json()["source"] == "orders"
    assert service.stop() == 0
