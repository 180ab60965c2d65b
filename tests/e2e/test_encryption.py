"""Encryption at rest of a real `up`: its files, and a change of keys that is killed again and again."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.service import Service, command, outside_environ
from zaqar_notify.client import Client
from zaqar_notify.delivery import InternalPost
from zaqar_notify.models import NewMessage
from zaqar_notify.operations.single import DATABASE
from zaqar_notify.settings import load_settings
from zaqar_notify.storage.internal import POISON_REF
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite.opening import connect
from zaqar_notify.storage.sqlite.statements import first_value

K1, K2 = (f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}" for key_id in ("k1", "k2"))
WORDS = "clear text of the client"
MESSAGES = 1000


def service_with(data: Path, *keys: str) -> Service:
    return Service(data, environ={"ZAQAR_ENCRYPTION_KEYS": ",".join(keys)})


@pytest.fixture
def encrypting(tmp_path: Path) -> Iterator[Service]:
    """A service that runs, with a queue that encrypts and has a subscription that nobody serves."""
    service = service_with(tmp_path / "data", K1)
    service.start()
    headers = {"Client-ID": "3381af92-2b9e-11e3-b191-71861300734c", "X-Project-ID": "default"}
    queue = f"{service.url}/v2/queues/orders"
    for method, url, document in (
        ("PUT", queue, {"_enable_encrypt_messages": True}),
        ("POST", f"{queue}/subscriptions", {"subscriber": "http://127.0.0.1:9/T0KEN"}),
    ):
        answer = requests.request(method, url, json=document, headers=headers, timeout=10)
        assert answer.status_code == 201, answer.text
    yield service
    if service.process is not None and service.process.poll() is None:
        service.kill()


def post(service: Service, count: int) -> None:
    with Client(service.url) as client:
        for first in range(0, count, 100):
            bodies = [f"{WORDS} {number}" for number in range(first, first + 100)]
            client.post("orders", *bodies)


def all_bodies(client: Client) -> list[str]:
    found: list[str] = []
    marker = None
    while (page := client.messages("orders", marker, echo=True)).messages:
        found += [message.body for message in page.messages]
        marker = page.marker
    return found


def files_of(data: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(data.iterdir()) if path.is_file())


def count_under(key_id: str, data: Path) -> int:
    """How many messages are under the key, while another process has the store."""
    db = connect(data / DATABASE, readonly=True)
    try:
        query = "SELECT count(*) FROM messages WHERE key_id = ?"
        return int(first_value(db, query, (key_id,)))
    finally:
        db.close()


def until_more_are_under(key_id: str, data: Path, *, than: int) -> None:
    deadline = time.monotonic() + 30
    while count_under(key_id, data) <= than:
        if count_under("k1", data) == 0:
            return  # The change was quick.
        assert time.monotonic() < deadline


def rekey(service: Service) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("rekey", "--json", "--data", str(service.data)),
        stdout=subprocess.PIPE,
        env=outside_environ() | {"ZAQAR_ENCRYPTION_KEYS": f"{K2},{K1}"},
        text=True,
    )


def test_the_files_hold_no_clear_body_and_no_subscriber_while_it_runs_or_after_a_crash(
    encrypting: Service,
) -> None:
    post(encrypting, 300)
    with Client(encrypting.url) as client:
        client.claim("orders", ttl=60, limit=10)
        shown = [message.body for message in client.messages("orders", echo=True).messages]
    while_it_runs = files_of(encrypting.data)
    encrypting.kill()

    assert shown[0] == f"{WORDS} 10"
    for stored in (while_it_runs, files_of(encrypting.data)):
        assert b"orders" in stored
        assert WORDS.encode() not in stored
        assert b"T0KEN" not in stored


def test_a_change_of_keys_that_is_killed_is_finished_by_the_next_one(encrypting: Service) -> None:
    post(encrypting, MESSAGES)
    assert encrypting.stop() == 0
    service = service_with(encrypting.data, K2, K1)

    alone = rekey(service)
    until_more_are_under("k2", service.data, than=0)
    alone.kill()
    alone.communicate()
    service.start()
    beside = rekey(service)
    until_more_are_under("k2", service.data, than=count_under("k2", service.data))
    service.kill()
    beside.communicate(timeout=60)
    done, _ = rekey(service).communicate(timeout=60)

    assert json.loads(done)["unused"] == ["k1"]
    service = service_with(encrypting.data, K2)
    service.start()
    try:
        with Client(service.url) as client:
            found = all_bodies(client)
    finally:
        service.stop()
    assert found == [f"{WORDS} {number}" for number in range(MESSAGES)]
    assert WORDS.encode() not in files_of(encrypting.data)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A data directory with a message under k1, which no service uses."""

    async def fill() -> None:
        keys = load_settings({"ZAQAR_ENCRYPTION_KEYS": K1}).keyring
        storage = await open_storage(f"sqlite://{tmp_path / DATABASE}", keys=keys)
        owed = InternalPost([NewMessage(body=b"1", ttl=3600)])
        await storage.post(POISON_REF, owed, now=storage.clock.now())
        await storage.close()

    asyncio.run(fill())
    return tmp_path


def run(*arguments: str, keys: str) -> subprocess.CompletedProcess[str]:
    environ = outside_environ() | {"ZAQAR_ENCRYPTION_KEYS": keys}
    return subprocess.run(command(*arguments), capture_output=True, env=environ, text=True)


def test_the_doctor_of_a_stopped_service_names_a_missing_key(stopped: Path) -> None:
    done = run("doctor", "--json", "--data", str(stopped), keys=K2)

    [finding] = [each for each in json.loads(done.stdout) if each["check"] == "encryption"]
    assert finding["level"] == "problem"
    assert "'k1'" in finding["sentence"]
    assert done.returncode == 1


def test_rekey_without_keys_is_refused_with_a_sentence(stopped: Path) -> None:
    done = run("rekey", "--data", str(stopped), keys="")

    assert done.returncode == 1
    assert "ZAQAR_ENCRYPTION_KEYS is not set" in done.stderr


def test_rekey_says_which_key_is_used_no_more_and_which_one_is_missing(stopped: Path) -> None:
    missing = run("rekey", "--data", str(stopped), keys=K2)
    assert missing.returncode == 1
    assert "encrypted under 'k1', and ZAQAR_ENCRYPTION_KEYS lacks this key" in missing.stdout

    done = run("rekey", "--data", str(stopped), keys=f"{K2},{K1}")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "Messages and subscriptions encrypted under 'k2' anew: 1.",
        "Nothing is encrypted under 'k1' any more: take it out of ZAQAR_ENCRYPTION_KEYS.",
    ]
