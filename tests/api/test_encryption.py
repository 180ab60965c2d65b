"""Clients of a queue that encrypts its messages see clear bodies, whatever they call."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, StartApi
from tests.clock import START
from tests.contract.raw import change_bodies, whole_store
from zaqar_notify.models import QueueRef

KEY = f"k1:{base64.b64encode(bytes(32)).decode()}"
ENCRYPTED = {"_enable_encrypt_messages": True}
QUEUE = "/v2/queues/orders"


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    """An API with a key, and a queue that asks for it."""
    api = await start_api(encryption_keys=KEY, enable_checksum=True)
    assert (await api.put(QUEUE, ENCRYPTED)).status == 201
    return api


def shown(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["body"] for message in messages]


async def test_a_queue_can_only_ask_for_it_where_there_is_a_key(start_api: StartApi) -> None:
    api = await start_api()

    refused = await api.put(QUEUE, ENCRYPTED)

    assert refused.status == 400
    assert "no key to encrypt with" in refused.json["description"]


async def test_the_queue_shows_that_it_encrypts(api: Api) -> None:
    assert (await api.get(QUEUE)).json["_enable_encrypt_messages"] is True


async def test_every_way_to_read_a_message_shows_its_clear_body(api: Api) -> None:
    [message_id] = await api.post_bodies("orders", "hidden")

    listed = await api.get(f"{QUEUE}/messages?echo=true")
    one = await api.get(f"{QUEUE}/messages/{message_id}")
    by_ids = await api.get(f"{QUEUE}/messages?ids={message_id}")
    claimed = await api.post(f"{QUEUE}/claims", {"ttl": 60, "grace": 60})
    claim = await api.get(claimed.headers["Location"])

    assert b"hidden" not in await whole_store(api.service.storage)
    assert shown(listed.json["messages"]) == ["hidden"]
    assert one.json["body"] == "hidden"
    assert shown(by_ids.json["messages"]) == ["hidden"]
    assert shown(claimed.json["messages"]) == ["hidden"]
    assert shown(claim.json["messages"]) == ["hidden"]
    digest = hashlib.md5(b'"hidden"', usedforsecurity=False).hexdigest()
    assert one.json["checksum"] == f"MD5:{digest}"


async def test_a_pop_shows_clear_bodies(api: Api) -> None:
    await api.post_bodies("orders", "hidden")

    popped = await api.delete(f"{QUEUE}/messages?pop=1")

    assert shown(popped.json["messages"]) == ["hidden"]


async def test_limits_are_of_the_clear_body(start_api: StartApi) -> None:
    api = await start_api(encryption_keys=KEY, max_messages_post_size=1000)
    await api.put(QUEUE, ENCRYPTED)
    document = {"messages": [{"body": ""}]}
    document["messages"][0]["body"] = "x" * (1000 - len(json.dumps(document)))

    assert (await api.post(f"{QUEUE}/messages", document)).status == 201


async def test_what_can_t_be_decrypted_is_left_out_and_a_read_of_it_names_the_key(
    api: Api,
) -> None:
    [locked] = await api.post_bodies("orders", "locked")
    await change_bodies(api.service.storage, lambda body: body.replace(b"k1", b"k0", 1))
    await api.post_bodies("orders", "open")

    refused = await api.get(f"{QUEUE}/messages/{locked}")

    assert shown((await api.get(f"{QUEUE}/messages?echo=true")).json["messages"]) == ["open"]
    claimed = await api.post(f"{QUEUE}/claims", {"ttl": 60, "grace": 60})
    assert shown(claimed.json["messages"]) == ["open"]
    assert refused.status == 503
    assert "'k0'" in refused.json["description"]


async def test_a_post_is_refused_when_the_keys_are_gone(
    start_api: StartApi, caplog: pytest.LogCaptureFixture
) -> None:
    api = await start_api()
    ref = QueueRef(PROJECT, "orders")
    await api.service.storage.queues.create(ref, metadata=ENCRYPTED, now=START)

    refused = await api.post(f"{QUEUE}/messages", {"messages": [{"body": "clear"}]})

    assert refused.status == 503
    assert "ZAQAR_ENCRYPTION_KEYS" in refused.json["description"]
    assert (await api.get(f"{QUEUE}/messages?echo=true")).json["messages"] == []
    told = [getattr(record, "action", "") for record in caplog.records]
    assert "encryption_impossible" in told
    assert "storage_unavailable" not in told
