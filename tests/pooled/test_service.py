"""A real `up` with pools of two drivers: what it promises holds on them, and over its death."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
import requests

from tests.mongod import mongo_uri
from tests.service import Service

HEADERS = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "p1"}
SECONDS = 20
KINDS = ("file", "mongo")
"""The pools, and the flavors that have one each."""


class Caller:
    def __init__(self, service: Service) -> None:
        self._url = f"{service.url}/v2"
        self._session = requests.Session()
        self._session.headers.update(HEADERS)

    def call(self, method: str, path: str, json: object = None) -> Any:
        answer = self._session.request(method, self._url + path, json=json, timeout=SECONDS)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def make(self, queue: str, **metadata: object) -> None:
        self.call("PUT", f"/queues/{queue}", metadata)

    def post(self, queue: str, *bodies: str) -> None:
        messages = [{"body": body, "ttl": 3600} for body in bodies]
        self.call("POST", f"/queues/{queue}/messages", {"messages": messages})

    def bodies(self, queue: str) -> list[str]:
        page = self.call("GET", f"/queues/{queue}/messages?echo=true&limit=20")
        return [message["body"] for message in page["messages"]]

    def claim(self, queue: str, *, gives_up: bool = False) -> list[str]:
        claim = self.call("POST", f"/queues/{queue}/claims", {"ttl": 300, "grace": 60})
        if gives_up:
            href = claim["messages"][0]["href"]
            self.call("DELETE", f"/queues/{queue}/claims/{href.partition('claim_id=')[2]}")
        return [message["body"] for message in claim["messages"]] if claim else []

    def until_there(self, queue: str, *bodies: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not {*bodies} <= {*self.bodies(queue)}:
            assert time.monotonic() < deadline, self.bodies(queue)
            time.sleep(0.05)

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data", environ={"ZAQAR_ADMIN_MODE": "true"})
    service.start()
    yield service
    service.kill()


@pytest.fixture
def caller(service: Service, tmp_path: Path) -> Iterator[Caller]:
    caller = Caller(service)
    uris = {"file": f"sqlite://{tmp_path}/file.db", "mongo": mongo_uri()}
    for kind in KINDS:
        caller.call("PUT", f"/pools/{kind}", {"uri": uris[kind], "weight": 1})
        caller.call("PUT", f"/flavors/{kind}", {"pool_list": [kind]})
        for queue in ("orders", "letters", "copies"):
            caller.make(f"{kind}-{queue}", _flavor=kind)
    yield caller
    caller.close()


def test_messages_claims_copies_and_dead_letters_survive_a_kill_wherever_they_are(
    service: Service, caller: Caller
) -> None:
    for kind, other in (KINDS, KINDS[::-1]):
        orders = f"{kind}-orders"
        caller.call(
            "POST",
            f"/queues/{orders}/subscriptions",
            {"subscriber": f"queue:{other}-copies", "ttl": 3600, "options": {}},
        )
        caller.make(
            f"{kind}-jobs",
            _flavor=kind,
            _dead_letter_queue=f"{other}-letters",
            _max_claim_count=1,
        )
        caller.post(orders, "1", "2")
        caller.post(f"{kind}-jobs", "bad")
        assert caller.claim(f"{kind}-jobs", gives_up=True) == ["bad"]
        assert caller.claim(f"{kind}-jobs") == []
        assert caller.claim(orders) == ["1", "2"]
        caller.post(orders, "3")

    service.kill()
    service.start()

    for kind in KINDS:
        assert caller.claim(f"{kind}-orders") == ["3"], "the others are claimed"
        caller.until_there(f"{kind}-copies", "1", "2", "3")
        caller.until_there(f"{kind}-letters", "bad")
        assert caller.bodies(f"{kind}-letters") == ["bad"]
        caller.call("DELETE", f"/queues/{kind}-orders")
        assert caller.bodies(f"{kind}-orders") == []
        caller.make(f"{kind}-orders")
        caller.post(f"{kind}-orders", "4")
        assert caller.bodies(f"{kind}-orders") == ["4"]
    listed = caller.call("GET", "/queues?limit=20")["queues"]
    assert len(listed) == 8


def test_records_are_in_a_database_of_their_own(tmp_path: Path) -> None:
    control_uri = mongo_uri()
    service = Service(tmp_path / "data", environ={"ZAQAR_CONTROL_URI": control_uri})
    service.start()
    caller = Caller(service)
    caller.make("orders", colour="red")
    caller.post("orders", "1")

    service.kill()
    service.start()

    assert caller.call("GET", "/queues/orders")["colour"] == "red"
    assert caller.bodies("orders") == ["1"]
    caller.close()
    assert service.stop() == 0
    with pymongo.MongoClient[dict[str, Any]](control_uri) as client:
        database = client.get_default_database()
        assert [record["metadata"] for record in database.records.find()] == ['{"colour":"red"}']
        assert not list(database.messages.find({"body": {"$exists": True}}))
