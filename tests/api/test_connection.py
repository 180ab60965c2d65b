"""A client's behaviour on a connection before there is a request to answer."""

from __future__ import annotations

import asyncio
import gc
import json
import socket

import pytest

from api import connection
from api.connection import LINGER_BYTES, Connection, Exit
from api.exchange import Exchange
from api.reading import MAX_HEAD_BYTES
from api.requests import Call
from tests.api.conftest import CLIENT_ID, Api
from tests.api.test_framing import PING, request, statuses
from tests.workers.office import until

IDENTITY = f"Host: x\r\nClient-ID: {CLIENT_ID}\r\nX-Project-ID: p1\r\n".encode()
KEPT = (Connection, Exit, Call)
NEVER_ENDING = {
    "one header": (b"GET /v2/ping HTTP/1.1\r\nX-Long: ", b"v" * 65536),
    "many headers": (b"GET /v2/ping HTTP/1.1\r\n", b"X-Short: v\r\n" * 6000),
    "a url": (b"GET /v2/queues?x=", b"v" * 65536),
}


@pytest.mark.parametrize("kind", NEVER_ENDING)
async def test_a_head_that_never_ends_is_refused_and_the_connection_closed(
    api: Api, kind: str
) -> None:
    beginning, piece = NEVER_ENDING[kind]
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)

    writer.write(beginning)
    sent = 0
    # A reset is an end, too: unread bytes of the head cause one.
    try:
        while not reader.at_eof() and not writer.is_closing():
            assert sent < LINGER_BYTES + 100 * MAX_HEAD_BYTES
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
            sent += len(piece)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_a_head_that_is_too_large_is_answered_in_the_contracts_form(api: Api) -> None:
    request = b"GET /v2/ping HTTP/1.1\r\n" + b"X-Long: " + b"v" * (2 * MAX_HEAD_BYTES)

    answer = await api.send_raw(request)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert json.loads(body)["title"] == "Invalid API request"
    assert "65536 bytes" in json.loads(body)["description"]


async def test_what_is_no_http_is_answered_in_the_contracts_form(api: Api) -> None:
    answer = await api.send_raw(b"FOO / SMTP\r\n\r\n")

    assert json.loads(answer.partition(b"\r\n\r\n")[2])["title"] == "Invalid API request"


async def test_a_large_head_within_the_limit_is_read(api: Api) -> None:
    padding = b"X-Long: " + b"v" * (MAX_HEAD_BYTES - 1000) + b"\r\n"

    answer = await api.send_raw(
        b"GET /v2/ping HTTP/1.1\r\nConnection: close\r\n" + IDENTITY + padding + b"\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 204 ")


async def test_a_large_body_and_the_next_request_can_come_in_one_piece(api: Api) -> None:
    body = json.dumps({"messages": [{"body": "x" * 200_000}]}).encode()
    post = b"POST /v2/queues/q/messages HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b"
    ping = b"GET /v2/ping HTTP/1.1\r\nConnection: close\r\n%b\r\n"

    answer = await api.send_raw(post % (IDENTITY, len(body), body) + ping % IDENTITY)

    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"HTTP/1.1 204 " in answer


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET /v2/ping HTT",
        b"POST /v2/queues/q/messages HTTP/1.1\r\n%bContent-Length: 100\r\n\r\n{" % IDENTITY,
        b"GET /v2/ping HTTP/1.1\r\n%b\r\nGET /v2/pi" % IDENTITY,
    ],
    ids=["nothing", "head", "body", "second head"],
)
async def test_a_request_that_does_not_arrive_loses_its_connection(
    api: Api, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.05)

    await api.send_raw(beginning)  # Returns when the connection is closed.


async def test_a_long_poll_may_take_longer_than_its_request_to_arrive(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.05)

    reply = await api.get("/v2/queues/q/messages?wait=1")

    assert reply.status == 200


async def request_much(api: Api) -> socket.socket:
    """A connection whose client has asked for a page of 5 MB, and has room for little of it."""
    for _ in range(20):
        await api.post_bodies("q", "x" * 250_000)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", api.port))
    request = b"GET /v2/queues/q/messages?echo=true&limit=20 HTTP/1.1\r\n%b\r\n" % IDENTITY
    await loop.sock_sendall(client, request)
    return client


async def test_an_answer_that_is_not_read_loses_its_connection(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.05)
    ended = asyncio.Event()
    lose = connection.Connection.connection_lost

    def lost(self: connection.Connection, error: Exception | None) -> None:
        lose(self, error)
        ended.set()

    monkeypatch.setattr(connection.Connection, "connection_lost", lost)

    client = await request_much(api)

    async with asyncio.timeout(10):
        await ended.wait()
    client.close()


async def test_an_answer_that_is_being_read_comes_whole(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.05)
    client = await request_much(api)
    loop = asyncio.get_running_loop()

    received = 0
    async with asyncio.timeout(20):
        while received < 20 * 250_000 and (piece := await loop.sock_recv(client, 65536)):
            received += len(piece)

    assert received >= 20 * 250_000
    client.close()


@pytest.mark.parametrize(
    "piece", [b"0\r\n" + b"a: b\r\n" * 1000, b"1;" + b"x" * 6000], ids=["fields", "extension"]
)
async def test_what_a_chunked_body_brings_beside_itself_is_bounded(api: Api, piece: bytes) -> None:
    """Headers behind the last chunk, or an extension of one, while a long poll waits."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(
        b"GET /v2/queues/q/messages?wait=20 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        + IDENTITY
        + b"\r\n"
    )
    writer.write(piece)
    try:
        async with asyncio.timeout(10):
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"a: b\r\n" * 1000)
                await writer.drain()
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    finally:
        writer.close()


MESSAGES = "/v2/queues/q/messages"
ANSWERS = {
    "with a body": (request("POST", MESSAGES, b'{"messages": [{"body": 1}]}'), 201),
    "without one": (request("DELETE", f"{MESSAGES}/none", b""), 204),
    "to HEAD": (request("HEAD", "/v2/ping", b""), 204),
    "of another route": (request("GET", "/openapi.json", b""), 200),
    "that ends the connection": (b"FOO / SMTP\r\n\r\n", 400),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_the_head_of_an_answer_is_sent_with_its_body(
    api: Api, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    writes: list[bytes] = []

    def write(self: Connection, parts: tuple[bytes, ...], size: int) -> None:
        writes.append(b"".join(parts))
        send(self, parts, size)

    send = Connection._write
    monkeypatch.setattr(Connection, "_write", write)
    asked, status = ANSWERS[kind]

    answers = await api.send_raw(asked + PING)

    assert statuses(answers)[0] == status
    assert len(writes) == len(statuses(answers))
    assert b"".join(writes) == answers


@pytest.mark.parametrize("kind", ["ended", "reset", "waiting"])
async def test_a_connection_that_is_over_leaves_nothing_to_the_garbage_collector(
    api: Api, kind: str
) -> None:
    path = b"/v2/queues/q/messages?wait=20" if kind == "waiting" else b"/v2/ping"
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, IDENTITY))
            await until(lambda: any(each.cycle for each in api.connections))
            writer.transport.abort() if kind == "reset" else writer.close()
            await until(lambda: not api.connections)
        await until(lambda: not any(type(each) in KEPT for each in gc.get_objects()))
    finally:
        gc.enable()


async def test_a_refused_request_is_kept_by_nothing(api: Api) -> None:
    """An error that is made once and raised often would keep the frames of its last raise."""
    for headers in ({"Client-ID": None}, {"X-Project-ID": None}, {"Accept": "text/html"}):
        await api.get("/v2/queues", headers=headers)
        await api.get("/v1.1/queues", headers=headers)
    gc.collect()

    assert not [each for each in gc.get_objects() if type(each) is Call]


async def test_an_answered_request_leaves_nothing_to_the_garbage_collector(api: Api) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await api.get("/v2/queues")
        kept = [each for each in gc.get_objects() if type(each) is Exchange]
    finally:
        gc.enable()

    assert len(kept) <= 1  # The latest one may be on its way out.
