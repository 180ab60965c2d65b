"""Frames that no client should send: each gets a 4xx and stores nothing."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from api.app import create_app
from api.push.frames import FrameInvalid, read
from api.push.surface import ACTIONS
from tests.api.conftest import CLIENT_ID, PROJECT, Api
from tests.clock import ManualClock
from tests.doorbell import SilentDoorbell
from tests.kinds import KINDS
from tests.push.conftest import Client
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

HEADERS = {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT}
EMPTY: dict[str, object] = {"action": None, "body": {}, "headers": {}, "api": "v2"}
VERBS = ("list", "create", "update", "get", "delete")
SCHEMA_ONLY = (
    *("get_home_doc", "check_node_health", "ping_node"),
    *(f"{thing}_{verb}" for thing in ("pool", "flavor") for verb in VERBS),
)


NOT_JSON = (
    "",
    "{",
    "nonsense",
    '{"a": NaN}',
    '{"a": 1e999}',
    '{"a": "\\ud800"}',
    '{"a":' * 5000,
)


async def test_a_text_frame_must_be_json(client: Client) -> None:
    for text in NOT_JSON:
        reply = await client.send(text)

        assert (reply.status, reply.request) == (400, EMPTY), text[:20]
        assert reply.body["error"].startswith("Can't decode text (JSON) request. ")


NOT_MESSAGEPACK = (
    b"",
    b"\xc1",
    b"\x81\xa1a",
    b"\x80\x80",
    b"\x81\xa1a\xd4\x05\x01",
    b"\x81\xa1a\xd7\xff" + bytes(8),
    b"\x81\xa1a\xc4\x01a",
    b"\x81\x01\xa1a",
    b"\x81\x90\xa1a",
    b"\x81\xa1\xff\xa1a",
    b"\x81\xa1a\xcb" + struct.pack("!d", float("nan")),
    b"\x81\xa1a\xcf" + b"\xff" * 8,
    b"\x81\xa1a" + b"\x91" * 300 + b"\xc0",
    b"\x91" * 5000,
    b"\xdf\xff\xff\xff\xff",
)


async def test_a_binary_frame_must_be_messagepack_that_json_can_express(client: Client) -> None:
    for packed in NOT_MESSAGEPACK:
        await client.socket.send_bytes(packed)
        reply = await client.reply()

        assert (reply.status, reply.request) == (400, EMPTY), packed[:20]
        assert reply.body["error"].startswith("Can't decode binary (MessagePack) request. ")


async def test_values_that_look_like_nan_in_messagepack_are_read(client: Client) -> None:
    values = [0xCA7FFF80, 0xCB7FF000, 3.0e38, -1.7e308]

    posted = await client.ask(
        "message_post", is_binary=True, queue_name="q", messages=[{"body": values}]
    )
    found = await client.ask("message_list", is_binary=True, queue_name="q", echo=True)

    assert posted.status == 201
    assert [each["body"] for each in found.body["messages"]] == [values]


def test_a_binary_frame_of_many_values_runs_no_python_code_for_each() -> None:
    many = 100_000
    packed = b"\xdd" + struct.pack("!I", many) + b"\x90" * many
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        with pytest.raises(FrameInvalid):
            read(packed)
    finally:
        sys.setprofile(None)

    assert calls < many / 10


async def test_headers_of_a_frame_are_bounded(client: Client) -> None:
    headers = {f"X-{number}": "x" for number in range(9000)}

    reply = await client.send({"action": "queue_list", "headers": headers, "body": {}})

    assert (reply.status, reply.body["error"]) == (400, "headers must have at most 65536 bytes")


@pytest.mark.parametrize("is_binary", [False, True])
async def test_a_frame_must_be_an_object(client: Client, is_binary: bool) -> None:
    frames: tuple[object, ...] = ([], 1, "text", None, True)
    for frame in frames:
        reply = await client.send(frame if is_binary else json.dumps(frame), is_binary)

        assert reply.status == 400
        assert reply.body == {"error": "Unexpected body type. Expected dict or dict like."}


async def test_an_unknown_action_is_refused(client: Client) -> None:
    for action in ("", "nonsense", "__init__", None, 1, ["queue_list"], *SCHEMA_ONLY):
        reply = await client.send({"action": action, "headers": HEADERS, "body": {}})

        assert reply.status == 400
        assert reply.body["error"].endswith("is not a valid action")


MISFITS: tuple[dict[str, object], ...] = (
    {"headers": None},
    {"headers": []},
    {"headers": {"X-Project-ID": PROJECT}},
    {"headers": {"client-id": CLIENT_ID, "x-project-id": PROJECT}},
    {"headers": {**HEADERS, "Client-ID": 1}},
    {"headers": {**HEADERS, "X-Project-ID": 1}},
    {"headers": {**HEADERS, "URL-Signature": {}}},
    {"body": None},
    {"body": []},
    {"body": {}},
    {"body": {"queue_name": 1}},
    {"body": {"queue_name": "q", "limit": "10"}},
    {"body": {"queue_name": "q", "limit": 1.5}},
    {"body": {"queue_name": "q", "limit": True}},
    {"body": {"queue_name": "q", "echo": "true"}},
)


async def test_a_frame_must_fit_its_action(client: Client) -> None:
    for misfit in MISFITS:
        sent = {"action": "message_list", "headers": HEADERS, "body": {"queue_name": "q"}}
        reply = await client.send({**sent, **misfit})

        assert reply.status == 400, misfit
        assert reply.body["error"].startswith("Schema validation failed.")
    assert (await client.ask("queue_list")).status == 200


OUT_OF_BOUNDS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("queue_create", {"queue_name": "a/b"}, "Queue"),
    ("queue_create", {"queue_name": "x" * 65}, "Queue"),
    ("queue_create", {"queue_name": "q", "metadata": []}, "object"),
    ("queue_create", {"queue_name": "q", "metadata": {"a": "x" * 65536}}, "at most 65536"),
    ("queue_create", {"queue_name": "q", "metadata": {"_default_message_ttl": -1}}, "ttl"),
    ("queue_list", {"limit": 0}, "limit"),
    ("queue_list", {"limit": 21}, "limit"),
    ("message_list", {"queue_name": "q", "limit": 21}, "limit"),
    ("message_post", {"queue_name": "q", "messages": []}, "at least one message"),
    ("message_post", {"queue_name": "q", "messages": {}}, "array"),
    ("message_post", {"queue_name": "q", "messages": [1]}, "object"),
    ("message_post", {"queue_name": "q", "messages": [{"ttl": 60}]}, "body"),
    ("message_post", {"queue_name": "q", "messages": [{"body": 1, "ttl": 59}]}, "ttl"),
    (
        "message_post",
        {"queue_name": "q", "messages": [{"body": "x" * 262144}]},
        "at most 262144",
    ),
    ("message_get_many", {"queue_name": "q", "message_ids": ["a"] * 21}, "21"),
    ("message_delete_many", {"queue_name": "q", "pop": 0}, "pop"),
    ("claim_create", {"queue_name": "q", "ttl": 59}, "ttl"),
    ("claim_create", {"queue_name": "q", "grace": 43201}, "grace"),
    ("claim_create", {"queue_name": "q", "limit": -1}, "limit"),
    ("claim_update", {"queue_name": "q", "claim_id": "x", "ttl": 0}, "ttl"),
    ("subscription_create", {"queue_name": "q", "subscriber": "http://a", "ttl": 59}, "ttl"),
    ("subscription_create", {"queue_name": "q", "subscriber": "nonsense"}, "subscriber"),
    (
        "subscription_create",
        {"queue_name": "q", "options": {"_delivery_template": "{{ body }}"}},
        "_delivery_template can't be used",
    ),
    (
        "subscription_create",
        {"queue_name": "q", "subscriber": "http://a", "options": {"_retry_policy": 1}},
        "",
    ),
)


async def test_a_value_out_of_bounds_is_refused_by_name(client: Client) -> None:
    for action, body, sentence in OUT_OF_BOUNDS:
        reply = await client.ask(action, **body)

        assert (reply.status, sentence in reply.body["error"]) == (400, True), reply
    assert (await client.ask("queue_list")).body == {"queues": []}


async def test_pages_ask_for_a_client_id_that_is_a_uuid(client: Client) -> None:
    for client_id, status in (("no uuid", 400), ("", 400), (CLIENT_ID, 200)):
        headers = {"Client-ID": client_id}

        page = await client.ask("message_list", queue_name="q", headers=headers)
        other = await client.ask("queue_list", headers=headers)

        assert (page.status, other.status) == (status, 200)


async def test_a_frame_must_name_a_project_that_a_header_could_name(client: Client) -> None:
    for project in ("", "x" * 257, "a\nb", "a\x00b"):
        reply = await client.ask("queue_create", queue_name="q", headers={"X-Project-ID": project})

        assert reply.status == 400


async def test_a_project_has_one_name_in_frames_and_in_headers(api: Api, client: Client) -> None:
    await client.ask("queue_create", queue_name="q", headers={"X-Project-ID": "Zürich"})

    listed = await api.get("/v2/queues", headers={"X-Project-ID": "Zürich"})

    assert [one["name"] for one in listed.json["queues"]] == ["q"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["q", "a" * 24, CLIENT_ID, PROJECT, "message_ids", "http://a"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = sorted({field for one in ACTIONS.values() for field in one.kind.__struct_fields__})
FRAMES = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from([*ACTIONS, "authenticate"]) | JSON,
        "headers": st.just(HEADERS)
        | st.dictionaries(
            st.sampled_from([*HEADERS, "URL-Signature", "URL-Paths", "X-Auth-Token"]), JSON
        )
        | JSON,
        "body": st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5) | JSON,
    },
)


class Fuzzed:
    """A WebSocket of an application without a server, and what its frames store."""

    def __init__(self, runner: asyncio.Runner, service: Service) -> None:
        self._runner = runner
        self._service = service
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._app = create_app(service)
        runner.run(self._open())

    def meet(self, data: bytes | str) -> None:
        """Send a frame. It is answered without a defect, and a refused one stores nothing."""
        before = self._runner.run(self._contents())
        status = self._runner.run(self._send(data))

        assert status in (200, 201, 204, 400, 403, 404, 409), (status, data)
        if status >= 400:
            assert self._runner.run(self._contents()) == before

    async def _open(self) -> None:
        scope = {
            "type": "websocket",
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "subprotocols": [],
        }
        self._events.put_nowait({"type": "websocket.connect"})
        self._serving = asyncio.create_task(self._app(scope, self._events.get, self._answers.put))
        assert (await self._answers.get())["type"] == "websocket.accept"

    async def _send(self, data: bytes | str) -> int:
        kind = "text" if isinstance(data, str) else "bytes"
        self._events.put_nowait({"type": "websocket.receive", kind: data})
        answer = await self._answers.get()
        read = msgspec.json.decode if kind == "text" else msgspec.msgpack.decode
        status: int = read(answer[kind])["headers"]["status"]
        return status

    async def _contents(self) -> list[object]:
        storage, now = self._service.storage, self._service.clock.now()
        queues = await storage.queues.list(PROJECT, marker=None, limit=100)
        stored: list[object] = [*queues]
        for queue in queues:
            ref = queue.ref
            stored.append(await storage.queues.stats(ref, now=now))
            stored.append(await storage.subscriptions.list(ref, marker=None, limit=100, now=now))
        return stored


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Fuzzed]:
    with asyncio.Runner() as runner:
        storage = runner.run(open_storage(f"sqlite://{tmp_path}/zaqar.db"))
        settings = Settings(auth="none")
        yield Fuzzed(runner, Service(storage, settings, ManualClock(), SilentDoorbell(), KINDS))
        runner.run(storage.close())


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frame=FRAMES, raw=st.binary(max_size=48) | st.text(max_size=48), cut=st.integers(0, 300))
def test_no_frame_makes_the_service_fail(
    fuzzed: Fuzzed, frame: Any, raw: bytes | str, cut: int
) -> None:
    text = json.dumps(frame)
    fuzzed.meet(text)
    fuzzed.meet(text[:cut])
    fuzzed.meet(raw)
    with suppress(OverflowError):  # MessagePack has no larger integers.
        packed = msgspec.msgpack.encode(frame)
        fuzzed.meet(packed)
        fuzzed.meet(packed[:cut] + b"\xd4\x05\x01" + packed[cut:])
