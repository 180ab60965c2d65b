"""Message filters: each sees every post before it is stored, and may change, refuse or route it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api.conftest import CLIENT_ID, PROJECT, Api, Reply, StartApi, bearer, make_token
from tests.contract.raw import whole_store
from tests.filters import (
    Act,
    First,
    Second,
    adding,
    install_filters,
    making,
    raising,
    routing,
    with_body,
)
from zaqar_notify.delivery import filters
from zaqar_notify.delivery.filters import Body, Posting
from zaqar_notify.errors import PostNotPermitted, PostRefused, StartRefused

MESSAGES = "/v2/queues/q/messages"
ENCRYPTION_KEY = f"k1:{base64.b64encode(bytes(32)).decode()}"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_filters(tmp_path / "site", monkeypatch)


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(filters="first")


async def post(api: Api, body: object = "sent", queue: str = "q", **options: Any) -> Reply:
    path = f"/v2/queues/{queue}/messages"
    return await api.post(path, {"messages": [{"body": body}]}, **options)


async def stored(api: Api, queue: str = "q") -> list[Any]:
    page = await api.get(f"/v2/queues/{queue}/messages?echo=true&include_delayed=true&limit=20")
    return [message["body"] for message in page.json["messages"]]


# What is seen


async def by_v1(api: Api) -> None:
    await api.put("/v1/queues/q")
    assert (await api.post("/v1/queues/q/messages", [{"body": "sent", "ttl": 60}])).status == 201


async def by_v1_1(api: Api) -> None:
    reply = await api.post("/v1.1/queues/q/messages", {"messages": [{"body": "sent", "ttl": 60}]})
    assert reply.status == 201


async def by_v2(api: Api) -> None:
    message = {"body": "sent", "ttl": 60, "delay": 0}
    assert (await api.post(MESSAGES, {"messages": [message]})).status == 201


async def by_topic(api: Api) -> None:
    message = {"body": "sent", "ttl": 60, "delay": 0}
    assert (await api.post("/v2/topics/q/messages", {"messages": [message]})).status == 201


async def by_websocket(api: Api) -> None:
    frame = {
        "action": "message_post",
        "headers": {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT},
        "body": {"queue_name": "q", "messages": [{"body": "sent", "ttl": 60, "delay": 0}]},
    }
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{api.url}/v2") as socket,
    ):
        await socket.send_json(frame)
        assert (await socket.receive_json(timeout=10))["headers"]["status"] == 201


@pytest.mark.parametrize("way", [by_v1, by_v1_1, by_v2, by_topic, by_websocket])
async def test_a_filter_sees_the_posts_of_every_wire(
    start_api: StartApi, way: Callable[[Api], Awaitable[None]]
) -> None:
    api = await start_api(filters="first", versions="v2,v1.1,v1")

    await way(api)

    [posting] = First.seen
    assert posting.messages == (Body(b'"sent"', 60, 0),)
    assert (posting.project, posting.queue, posting.is_topic) == (PROJECT, "q", way is by_topic)
    assert not posting.is_relayed


async def test_a_filter_knows_the_queue_s_metadata_as_they_are_at_the_post(api: Api) -> None:
    await post(api)
    await api.put("/v2/queues/q", {"mask": ["name"]})
    await api.call(
        "PATCH",
        "/v2/queues/q",
        body=json.dumps([{"op": "add", "path": "/metadata/mask", "value": ["card"]}]).encode(),
        headers={"Content-Type": "application/openstack-messaging-v2.0-json-patch"},
    )

    await post(api)

    assert [posting.metadata for posting in First.seen] == [{}, {"mask": ["card"]}]


async def test_filters_take_turns_in_the_order_of_the_setting(start_api: StartApi) -> None:
    api = await start_api(filters="second, first")
    First.act, Second.act = adding(b"1"), adding(b"2")

    await post(api)

    assert await stored(api) == [[["sent", 2], 1]]


async def spoiling(posting: Posting) -> Posting:
    posting.metadata["mask"].append("spoilt")
    return posting


async def test_a_filter_that_changes_metadata_in_its_hands_changes_no_queue(api: Api) -> None:
    await api.put("/v2/queues/q", {"mask": []})
    First.act = spoiling

    await post(api)
    await post(api)

    assert (await api.get("/v2/queues/q")).json["mask"] == []
    assert First.seen[1].metadata == {"mask": ["spoilt"]}


# What a filter may do


async def test_a_changed_post_is_stored_as_it_was_changed(api: Api) -> None:
    First.act = with_body(text=b'{"b": 1.0}', ttl=99, delay=7)

    await post(api)

    page = await api.get(f"{MESSAGES}?echo=true&include_delayed=true")
    assert b'"body":{"b": 1.0}' in page.body
    assert page.json["messages"][0]["ttl"] == 99
    assert api.service.metrics.filtered == Counter([("first", "changed")])


async def test_a_filter_sees_attributes_and_may_change_them(api: Api) -> None:
    kept = {"colour": {"type": "String", "value": "blue"}}
    First.act = with_body(attributes=json.dumps(kept, separators=(",", ":")).encode())

    await api.post(MESSAGES, {"messages": [{"body": 1, "attributes": {"colour": "red"}}]})

    [posting] = First.seen
    assert posting.messages[0].attributes == b'{"colour":{"type":"String","value":"red"}}'
    [message] = (await api.get(f"{MESSAGES}?echo=true&attributes=true")).json["messages"]
    assert message["attributes"] == kept


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (PostRefused("No cards here"), 400, "Invalid API request"),
        (PostNotPermitted("No cards here"), 403, "Not authorized"),
    ],
)
async def test_a_refused_post_is_answered_with_the_filter_s_sentence(
    api: Api, error: Exception, status: int, title: str
) -> None:
    First.act = raising(error)

    reply = await post(api)

    assert (reply.status, reply.json) == (status, {"title": title, "description": "No cards here"})
    assert (await api.get("/v2/queues")).json["queues"] == []
    assert api.service.metrics.filtered == Counter([("first", "refused")])


async def test_the_links_of_a_routed_post_lead_to_where_it_is(api: Api) -> None:
    First.act = routing("other")

    reply = await post(api)

    [href] = reply.json["resources"]
    assert href.startswith("/v2/queues/other/messages/")
    assert reply.headers["Location"].startswith("/v2/queues/other/messages?ids=")
    assert (await api.get(href)).json["body"] == "sent"
    assert await stored(api) == []


async def test_a_later_filter_knows_the_queue_that_a_post_is_routed_to(start_api: StartApi) -> None:
    api = await start_api(filters="first,second")
    await api.put("/v2/queues/other", {"of": "other"})
    First.act = routing("other")

    await post(api)

    assert [(one.queue, one.metadata) for one in Second.seen] == [("other", {"of": "other"})]


async def test_a_post_is_routed_only_to_where_its_caller_may_post(start_api: StartApi) -> None:
    api = await start_api(filters="first", auth="token")
    confined = bearer(await make_token(api, queue="q*"))
    First.act = routing("other")

    refused = await post(api, headers=confined)
    First.act = routing("q2")
    taken = await post(api, headers=confined)

    assert (refused.status, refused.title) == (403, "Not authorized")
    assert taken.status == 201


# What is stored obeys the limits


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (with_body(text=b'"%b"' % (b"x" * 300)), "takes at most 200 bytes"),
        (with_body(ttl=10**9), "ttl"),
        (with_body(delay=10**9), "delay"),
        (with_body(delay=-1), "delay"),
    ],
)
async def test_what_a_filter_makes_of_a_post_obeys_the_queue_s_limits(
    api: Api, act: Act, sentence: str
) -> None:
    await api.put("/v2/queues/q", {"_max_messages_post_size": 200})
    First.act = act

    reply = await post(api)

    assert (reply.status, reply.title) == (400, "Invalid API request")
    assert sentence in reply.json["description"]
    assert await stored(api) == []


async def hanging(posting: Posting) -> Posting:
    await asyncio.sleep(60)
    return posting


@pytest.mark.parametrize(
    "act",
    [
        raising(ZeroDivisionError("a defect")),
        raising(StartRefused("no error of posts")),
        making(None),
        making(Posting("p2", "q", False, {}, (Body(b"1"),), CLIENT_ID)),
        making(Posting(PROJECT, "q", True, {}, (Body(b"1"),), CLIENT_ID)),
        making(Posting(PROJECT, "no queue", False, {}, (Body(b"1"),), CLIENT_ID)),
        making(Posting(PROJECT, "q", False, {}, (), CLIENT_ID)),
        with_body(text=b"{"),
        with_body(text=b""),
        with_body(text=b"NaN"),
        with_body(text=b'"\xff"'),
        with_body(text=b"1" * 30),
        with_body(text=b"[" * 300 + b"]" * 300),
        with_body(text="text"),
        with_body(ttl="x"),
        with_body(attributes=b'{"a":1}'),
        with_body(attributes=b'{"a b":{"type":"Number","value":1}}'),
        with_body(attributes={}),
        hanging,
    ],
)
async def test_a_filter_that_fails_stores_nothing_and_is_logged(
    api: Api, act: Act, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(filters, "MOST_SECONDS", 0.05)
    First.act = act

    reply = await post(api)

    assert (reply.status, reply.title) == (500, "Internal server error")
    assert "filter 'first'" in reply.json["description"]
    assert (await api.get("/v2/queues")).json["queues"] == []
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    facts = record.__dict__
    assert (facts["action"], facts["filter"], facts["queue"]) == ("filter_failed", "first", "q")
    assert record.exc_info is not None
    assert api.service.metrics.filtered == Counter([("first", "failed")])


# Repeated posts


KEY = {"Idempotency-Key": "k"}


@pytest.mark.parametrize(
    "later", [adding(b"2"), raising(PostRefused("no more"))], ids=["changed", "refused"]
)
async def test_a_repeated_post_is_answered_as_the_first_whatever_the_filter_does(
    api: Api, later: Act
) -> None:
    First.act = adding(b"1")
    first = await post(api, headers=KEY)
    First.act = later

    again = await post(api, headers=KEY)
    another = await post(api, "other", headers=KEY)

    assert (again.status, again.json) == (201, first.json)
    assert another.status == 409
    assert await stored(api) == [["sent", 1]]


async def test_a_refused_post_does_not_use_up_its_key(api: Api) -> None:
    First.act = raising(PostRefused("not yet"))
    refused = await post(api, headers=KEY)
    First.act = None

    assert (refused.status, (await post(api, headers=KEY)).status) == (400, 201)


async def test_equal_keys_of_two_queues_do_not_meet_where_their_posts_are_routed(api: Api) -> None:
    First.act = routing("both")

    firsts = [await post(api, queue, queue, headers=KEY) for queue in ("a", "b", "both")]
    again = [await post(api, queue, queue, headers=KEY) for queue in ("a", "b", "both")]
    reused = await post(api, "another", "a", headers=KEY)

    assert await stored(api, "both") == ["a", "b", "both"]
    assert [reply.json for reply in again] == [reply.json for reply in firsts]
    assert (reused.status, "'k'" in reused.json["description"]) == (409, True)


# Encrypted queues


async def test_a_filter_sees_clear_bodies_of_a_queue_that_encrypts(start_api: StartApi) -> None:
    api = await start_api(filters="first", encryption_keys=ENCRYPTION_KEY)
    await api.put("/v2/queues/q", {"_enable_encrypt_messages": True})
    First.act = adding(b"1")

    await post(api)

    assert b"sent" not in await whole_store(api.service.storage)
    assert First.seen[0].messages[0].text == b'"sent"'
    assert await stored(api) == [["sent", 1]]


@pytest.mark.parametrize(("encrypts", "status"), [(True, 201), (False, 403)])
async def test_messages_that_are_to_be_encrypted_are_not_routed_to_where_they_would_not_be(
    start_api: StartApi, encrypts: bool, status: int
) -> None:
    api = await start_api(filters="first", encryption_keys=ENCRYPTION_KEY)
    await api.put("/v2/queues/q", {"_enable_encrypt_messages": True})
    await api.put("/v2/queues/other", {"_enable_encrypt_messages": encrypts})
    First.act = routing("other")

    assert (await post(api)).status == status


# Starting


async def test_a_filter_that_is_not_installed_stops_the_start(start_api: StartApi) -> None:
    with pytest.raises(StartRefused, match=r"'third'.*installed are first, second"):
        await start_api(filters="first,third")


async def test_without_filters_nothing_is_asked(start_api: StartApi) -> None:
    api = await start_api()

    await post(api)

    assert api.service.filters is None
    assert First.seen == []
