"""`Accept: text/event-stream`: a queue's messages as they come, from where the client left off."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from api.requests import Call
from api.resources import Lasting
from api.turns import Turns
from api.zaqar import events
from tests.api.conftest import (
    CLIENT_ID,
    OTHER_CLIENT_ID,
    PROJECT,
    Api,
    StartApi,
    bearer,
    make_token,
)
from tests.clock import START, ManualClock
from tests.events import Event, Reader
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Message, Page, QueueRef
from zaqar_notify.rules.signing import sign_url, wire_instant
from zaqar_notify.storage.ids import markers_of

MESSAGES = "/v2/queues/q/messages"
HEADERS = {"Client-ID": OTHER_CLIENT_ID, "X-Project-ID": PROJECT, "Accept": "text/event-stream"}
DEADLINE_SECONDS = 10


class Stream:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self._reader = Reader()

    @property
    def comments(self) -> list[str]:
        return self._reader.comments

    async def next(self, count: int = 1) -> list[Event]:
        """The next events; fewer at the end of the stream."""
        events = self._reader.events
        while len(events) < count and await self._feed():
            pass
        taken, events[:count] = events[:count], []
        return taken

    async def bodies(self, count: int) -> list[Any]:
        return [event.body for event in await self.next(count)]

    async def until_comment(self) -> None:
        before = len(self.comments)
        while len(self.comments) == before:
            assert await self._feed()

    async def rest(self) -> list[Event]:
        """All events until the server ends the stream."""
        while await self._feed():
            pass
        return self._reader.events

    async def _feed(self) -> bool:
        part = await asyncio.wait_for(self.answer.content.readany(), DEADLINE_SECONDS)
        self._reader.feed(part)
        return part != b""


def small_socket(address: Any) -> socket.socket:
    """A socket that takes little which its program does not read."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


@asynccontextmanager
async def following(
    api: Api, query: str = "", *, headers: Mapping[str, str | None] = {}, method: str = "GET"
) -> AsyncIterator[Stream]:
    sent = {name: value for name, value in {**HEADERS, **headers}.items() if value is not None}
    url = URL(f"{api.url}{MESSAGES}?{query}", encoded=True)
    connector = aiohttp.TCPConnector(socket_factory=small_socket)
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30), connector=connector) as session,
        session.request(method, url, headers=sent) as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "text/event-stream"), (
            await answer.read()
        )
        yield Stream(answer)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams look after their callers and queues all the time."""
    monkeypatch.setattr(events, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(events, "CHECKED_SECONDS", 0.0)


async def test_messages_that_are_there_come_first_and_then_each_new_one(api: Api) -> None:
    old = await api.post_bodies("q", 1, 2)

    async with following(api) as stream:
        assert await stream.bodies(2) == [1, 2]
        [new] = await api.post_bodies("q", 3)
        [event] = await stream.next()

    listed = (await api.get(f"{MESSAGES}?echo=true&marker={old[1]}")).json["messages"]
    assert [event.json | {"age": 0}] == [listed[0] | {"age": 0}]
    assert (event.kind, event.last_id) == ("message", new)


async def test_events_have_attributes_when_the_client_asks(api: Api) -> None:
    await api.post(MESSAGES, {"messages": [{"body": 1, "attributes": {"colour": "blue"}}]})

    async with following(api, "attributes=true") as stream:
        [event] = await stream.next()

    assert event.json["attributes"] == {"colour": {"type": "String", "value": "blue"}}


async def test_a_queue_that_is_not_there_yet_is_followed(api: Api) -> None:
    async with following(api) as stream:
        await api.post_bodies("q", "first")

        assert await stream.bodies(1) == ["first"]


async def test_a_body_of_several_lines_comes_whole(api: Api) -> None:
    text = b'{"messages": [{"body": {"a":\n 1,\r\n\r\n "b":\r"\\n"}}]}'
    await api.call("POST", MESSAGES, body=text)

    async with following(api) as stream:
        assert await stream.bodies(1) == [{"a": 1, "b": "\n"}]


@pytest.mark.parametrize("limit", [1, 3])
async def test_each_event_s_id_resumes_behind_it(api: Api, limit: int) -> None:
    await api.post_bodies("q", 1, 2, 3, 4)
    async with following(api) as stream:
        ids = [event.last_id for event in await stream.next(4)]

    for place, last_id in enumerate(ids[:-1], start=1):
        query = f"limit={limit}&marker={ids[2]}"
        async with following(api, query, headers={"Last-Event-ID": last_id}) as stream:
            assert await stream.bodies(4 - place) == [1, 2, 3, 4][place:]


async def test_without_an_event_so_far_a_stream_begins_at_the_marker(api: Api) -> None:
    [first, _] = await api.post_bodies("q", 1, 2)

    async with following(api, f"marker={first}", headers={"Last-Event-ID": ""}) as stream:
        assert await stream.bodies(1) == [2]


def test_a_moved_message_is_no_place_to_resume_at_unless_it_is_the_last() -> None:
    def message(life: str) -> Message:
        return Message("0" * 16 + life, b"1", 60, posted_at=START, expires_at=START)

    own, moved = message("a" * 8), message("b" * 8)
    page = Page([own, moved, own, moved], marker="f" * 16 + "a" * 8)

    assert markers_of(page) == [own.id, None, own.id, page.marker]


async def test_own_messages_are_shown_with_echo_only(api: Api) -> None:
    await api.post_bodies("q", "mine")
    own = {"Client-ID": CLIENT_ID}

    async with following(api, "echo=true", headers=own) as stream:
        assert await stream.bodies(1) == ["mine"]
    async with following(api, headers=own) as stream:
        await api.post(
            MESSAGES, {"messages": [{"body": "theirs"}]}, headers={"Client-ID": "0" * 32}
        )
        assert await stream.bodies(1) == ["theirs"]


async def test_claimed_and_delayed_messages_are_shown_when_asked_for(api: Api) -> None:
    await api.post(MESSAGES, {"messages": [{"body": "claimed"}]})
    await api.post("/v2/queues/q/claims")
    await api.post(MESSAGES, {"messages": [{"body": "delayed", "delay": 60}, {"body": "free"}]})

    async with following(api) as stream:
        assert await stream.bodies(1) == ["free"]
    async with following(api, "include_claimed=true&include_delayed=true") as stream:
        assert await stream.bodies(3) == ["claimed", "delayed", "free"]


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream", True),
        ("text/event-stream, */*", True),
        ("text/event-stream, application/json;q=0.5", True),
        ("application/json, text/event-stream", False),
        ("*/*", False),
        ("text/*, */*", False),
        ("", False),
        (None, False),
    ],
)
async def test_only_a_client_that_names_events_gets_a_stream(
    api: Api, accept: str | None, is_stream: bool
) -> None:
    async with aiohttp.ClientSession(skip_auto_headers=("Accept",)) as session:
        headers = {
            name: value
            for name, value in {**HEADERS, "Accept": accept}.items()
            if value is not None
        }
        async with session.get(api.url + MESSAGES, headers=headers) as answer:
            kind = "text/event-stream" if is_stream else "application/json"
            assert (answer.status, answer.content_type) == (200, kind)


@pytest.mark.parametrize(
    "path", ["/v2/queues", "/v2/queues/q", "/v1.1/queues/q/messages", "/v2/topics/t/messages"]
)
async def test_other_resources_have_no_stream(api: Api, path: str) -> None:
    assert (await api.get(path, headers=HEADERS)).status == 406


@pytest.mark.parametrize(
    ("query", "headers", "title"),
    [
        ("limit=x", {}, "Invalid parameter"),
        ("limit=21", {}, "Invalid API request"),
        ("ids=x", {}, "Invalid parameter"),
        ("marker=x", {}, "Invalid parameter"),
        ("", {"Last-Event-ID": "x"}, "Invalid parameter"),
        ("", {"Client-ID": None}, "Missing header value"),
        ("client_id=me", {"Client-ID": None}, "Wrong UUID value"),
    ],
)
async def test_a_stream_that_can_t_begin_is_refused_in_json(
    api: Api, query: str, headers: dict[str, str | None], title: str
) -> None:
    reply = await api.get(f"{MESSAGES}?{query}", headers={**HEADERS, **headers})

    assert (reply.status, reply.title) == (400, title)


async def test_a_head_request_takes_nothing(start_api: StartApi) -> None:
    api = await start_api(quota_long_polls=1)

    async with following(api, method="HEAD") as stream:
        assert await stream.rest() == []

    assert api.service.quotas.polls(PROJECT) == 0


async def is_refused(api: Api) -> bool:
    return (await api.call("HEAD", MESSAGES, headers=HEADERS)).status == 503


async def test_a_stream_counts_as_a_long_poll_until_its_client_hangs_up(
    start_api: StartApi,
) -> None:
    api = await start_api(quota_long_polls=1)

    async with following(api) as stream:
        refused = await api.get(MESSAGES, headers=HEADERS)
        await api.post_bodies("q", 1)
        assert await stream.bodies(1) == [1]
        assert api.service.metrics.event_streams == 1

    assert (refused.status, refused.title) == (503, "Too many requests")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await is_refused(api):
            pass
    assert api.service.metrics.event_streams == 0


@pytest.mark.usefixtures("quick")
async def test_comments_keep_a_silent_stream_alive(api: Api) -> None:
    async with following(api) as stream:
        await stream.until_comment()
        await stream.until_comment()
        await api.post_bodies("q", "late")

        assert await stream.bodies(1) == ["late"]


@pytest.mark.usefixtures("quick")
async def test_the_deletion_of_the_queue_ends_its_streams(api: Api) -> None:
    await api.post_bodies("q", 1)
    async with following(api) as stream:
        await stream.next()
        await api.delete("/v2/queues/q")

        [end] = await stream.rest()

    assert (end.kind, end.json["description"]) == ("end", "Queue 'q' does not exist")


@pytest.mark.usefixtures("quick")
async def test_a_stream_of_a_deleted_queue_resumes_on_the_next_one_of_that_name(api: Api) -> None:
    await api.post_bodies("q", 1)
    async with following(api) as stream:
        [last] = await stream.next()
    await api.delete("/v2/queues/q")
    await api.post_bodies("q", 2)

    async with following(api, headers={"Last-Event-ID": last.last_id}) as stream:
        assert await stream.bodies(1) == [2]


@pytest.mark.usefixtures("quick")
async def test_a_revoked_token_ends_its_streams_and_is_sent_nothing_more(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zaqar_notify.auth.known_tokens.KNOWN_SECONDS", 0.0)
    api = await start_api(auth="token")
    stored = api.service.storage.control.tokens
    reader = await make_token(api)
    [token] = await stored.list(PROJECT, marker=None, limit=1)
    writer = await make_token(api)
    async with following(api, headers=bearer(reader)) as stream:
        await stored.remove(token.id)
        await api.post(MESSAGES, {"messages": [{"body": "secret"}]}, headers=bearer(writer))

        [end] = await stream.rest()

    assert (end.kind, end.json["title"]) == ("end", "Unauthorized")


async def signed_query(api: Api, clock: ManualClock, **changed: str) -> str:
    expires = clock.now() + timedelta(seconds=60)
    signature = sign_url(
        "secret", paths=[MESSAGES], methods=["GET"], project=PROJECT, expires=expires
    )
    return urlencode(
        {
            "url_signature": signature,
            "url_expires": wire_instant(expires),
            "url_methods": "GET",
            "url_paths": MESSAGES,
            "project_id": PROJECT,
            "client_id": OTHER_CLIENT_ID,
        }
        | changed
    )


NO_HEADERS: Mapping[str, str | None] = {"Client-ID": None, "X-Project-ID": None}


@pytest.mark.usefixtures("quick")
async def test_a_signature_in_the_query_opens_a_stream_until_it_expires(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(auth="token", signed_url_secrets="secret")
    writer = bearer(await make_token(api))
    query = await signed_query(api, clock)

    async with following(api, query, headers=NO_HEADERS) as stream:
        await api.post(MESSAGES, {"messages": [{"body": 1}]}, headers=writer)
        assert await stream.bodies(1) == [1]
        clock.advance(seconds=60)
        await api.post(MESSAGES, {"messages": [{"body": "secret"}]}, headers=writer)
        [end] = await stream.rest()

    assert (end.kind, end.json["title"]) == ("end", "404 Not Found")


async def test_a_query_s_credentials_are_written_nowhere(
    start_api: StartApi, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api = await start_api(auth="token", signed_url_secrets="secret")
    query = await signed_query(api, clock)
    secret = query.partition("=")[2].partition("&")[0]
    altered = await signed_query(api, clock, url_signature=f"{secret}0")

    async with following(api, query, headers=NO_HEADERS):
        pass
    refusals = [
        await api.get(f"{path}?{sent}", headers={"Accept": accept, **NO_HEADERS})
        for sent in (altered, f"{query}&{query}", f"{query}&limit=x", query)
        for accept in ("text/event-stream", "application/json")
        for path in (MESSAGES, "/v2/queues/r/messages", "/nowhere")
        if sent != query or accept != "text/event-stream"
    ]

    assert {reply.status for reply in refusals} <= {400, 401, 404}
    assert not [reply for reply in refusals if secret.encode() in reply.body]
    assert secret not in caplog.text
    assert not [
        record for record in caplog.records if secret in json.dumps(vars(record), default=str)
    ]


async def test_a_stop_of_the_service_ends_streams_so_that_they_can_resume(api: Api) -> None:
    await api.post_bodies("q", 1)
    async with following(api) as stream:
        [event] = await stream.next()
        api.service.storage.stop_waiting()

        assert await stream.rest() == []
        assert stream._reader.retry_ms in range(1000, 3001)
    assert event.last_id


async def test_an_outage_of_the_store_is_waited_for(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StorageUnavailable, "retry_after_seconds", 0.01)
    async with following(api) as stream:
        with monkeypatch.context() as outage:

            async def fail(*_arguments: object, **_named: object) -> Page:
                raise StorageUnavailable("away")

            outage.setattr(api.service.storage.messages, "page", fail)
            await api.post_bodies("q", 1)
            await stream.until_comment()

        assert await stream.bodies(1) == [1]


async def test_a_client_that_reads_nothing_has_a_page_or_two_in_memory(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, posts = "x" * 200_000, 60
    for number in range(posts):
        await api.post_bodies("q", f"{number} {body}")
    looks = 0
    page = api.service.storage.messages.page

    async def counted(*arguments: Any, **named: Any) -> Page:
        nonlocal looks
        looks += 1
        return await page(*arguments, **named)

    monkeypatch.setattr(api.service.storage.messages, "page", counted)

    async with following(api, "limit=1") as stream:
        await asyncio.sleep(0.5)  # Long enough for all of them, were none held up.
        held_up = looks

        assert held_up < posts / 2
        assert [int(text.partition(" ")[0]) for text in await stream.bodies(posts)] == [
            *range(posts)
        ]


async def test_no_page_is_read_before_the_client_has_read_the_last_one(api: Api) -> None:
    await api.post_bodies("q", 1, 2)
    is_read = asyncio.Event()
    scope = {
        "method": "GET",
        "path": MESSAGES,
        "query_string": b"limit=1",
        "headers": [],
        "http_version": "1.0",
    }
    call = Call(scope, None, b"req", "", "", {})  # type: ignore[arg-type]
    call.ref, call.project, call.client_id = QueueRef(PROJECT, "q"), PROJECT, OTHER_CLIENT_ID
    call.read = is_read.wait
    line = Turns(most_buffered_bytes=1 << 20).of(PROJECT)
    answer = await events.follow(api.service, call, Lasting(line, permit))
    parts = cast(AsyncGenerator[bytes, None], answer.body)
    async with asyncio.timeout(DEADLINE_SECONDS), aclosing(parts):
        assert b'"body":1' in await anext(parts)
        following_part = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0.1)  # Long enough for a page.
        assert not following_part.done()

        is_read.set()

        assert b'"body":2' in await following_part


async def permit() -> None:
    pass
