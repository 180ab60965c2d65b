"""A WebSocket on its connection: the handshake, bounds, pings, and the end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from api import sockets
from tests.api.conftest import CLIENT_ID, PROJECT, Api, StartApi
from tests.push.conftest import Client, Connect, Start
from tests.push.raw import HANDSHAKE, PING, PONG, TEXT, Raw, raw

PAGE = json.dumps(
    {
        "action": "message_list",
        "headers": {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT},
        "body": {"queue_name": "q", "echo": True, "limit": 20},
    }
).encode()
LISTING = json.dumps(
    {
        "action": "queue_list",
        "headers": {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT},
    }
).encode()


async def test_a_handshake_may_follow_requests_on_its_connection(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    first = await reader.readuntil(b"\r\n\r\n")

    writer.write(b"GET / HTTP/1.1\r\n" + HANDSHAKE + b"\r\n")
    second = await reader.readuntil(b"\r\n\r\n")

    assert (first[:12], second[:12]) == (b"HTTP/1.1 204", b"HTTP/1.1 101")
    assert b"sec-websocket-extensions" not in second.lower()
    writer.close()


async def test_frames_may_come_with_the_handshake(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    early = Raw(reader, writer)
    writer.write(b"GET / HTTP/1.1\r\n" + HANDSHAKE + b"\r\n")
    for _ in range(3):
        early.send(TEXT, LISTING)

    await reader.readuntil(b"\r\n\r\n")

    assert [await early.status() for _ in range(3)] == [200, 200, 200]
    writer.close()


NOT_TAKEN = (
    (b"GET /nowhere HTTP/1.1", b"", b"403"),
    (b"GET /v2/queues HTTP/1.1", b"", b"403"),
    (b"POST / HTTP/1.1", b"Content-Length: 0\r\n", b"405"),
    (b"GET / HTTP/1.1", b"X-Long: " + b"x" * 9000 + b"\r\n", b"400"),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1", b"", b"400"),
    (b"GET / HTTP/1.1", b"".join(b"X-%d: 1\r\n" % n for n in range(200)), b"400"),
    (b"GET / HTTP/1.1", b"X-Long: " + b"x" * 70000 + b"\r\n", b"400"),
    (b"GET /\xff HTTP/1.1", b"", b"400"),
)


async def test_a_handshake_that_can_t_be_taken_is_answered(api: Api) -> None:
    for request_line, headers, status in NOT_TAKEN:
        answer = await api.send_raw(request_line + b"\r\n" + HANDSHAKE + headers + b"\r\n")

        assert answer.split(b" ")[1] == status, answer


async def test_where_websockets_are_off_the_offer_is_declined(start_api: StartApi) -> None:
    api = await start_api(websocket=False)

    answer = await api.send_raw(b"GET / HTTP/1.1\r\n" + HANDSHAKE + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 300 ")


async def test_a_message_may_come_in_fragments(api: Api) -> None:
    async with raw(api) as socket:
        socket.send(TEXT, LISTING[:20], is_last=False)
        socket.send(0, b"", is_last=False)
        socket.send(PING, b"between")
        socket.send(0, LISTING[20:])

        assert await socket.receive() == (PONG, b"between")
        assert await socket.status() == 200


@pytest.mark.parametrize(("size", "code"), [(2000, 1009), (2**62, 1009)])
async def test_a_message_that_is_too_large_ends_the_socket(
    start_api: StartApi, size: int, code: int
) -> None:
    async with raw(await start_api(websocket_max_frame_bytes=1000)) as socket:
        socket.send(TEXT, b"x", size=size)

        assert await socket.end() == code


async def test_fragments_count_together(start_api: StartApi) -> None:
    async with raw(await start_api(websocket_max_frame_bytes=1000)) as socket:
        socket.send(TEXT, b"x" * 600, is_last=False)
        socket.send(0, b"x" * 600)

        assert await socket.end() == 1009


@pytest.mark.parametrize(
    ("opcode", "payload", "code"), [(TEXT, b"\xff", 1007), (3, b"", 1002), (0, b"a", 1002)]
)
async def test_what_is_no_websocket_ends_the_socket(
    api: Api, opcode: int, payload: bytes, code: int
) -> None:
    async with raw(api) as socket:
        socket.send(opcode, payload)

        assert await socket.end() == code


async def test_bad_frames_before_the_answer_to_the_handshake_do_no_harm(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for early in (b"\xff\xff\xff", b"\x81\x85aaaab", b"\x88\x80aaaa"):
        await api.send_raw(b"GET / HTTP/1.1\r\n" + HANDSHAKE + b"\r\n" + early + b"\xff" * 20)

    assert (await api.get("/healthz")).status == 204
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_message_that_does_not_arrive_whole_ends_the_socket(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "ARRIVAL_SECONDS", 0.05)
    async with raw(api) as socket:
        socket.send(TEXT, LISTING[:20], size=len(LISTING))

        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await socket.receive()


async def test_a_client_that_does_not_read_loses_its_socket_and_stops_nobody(
    start_api: StartApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "UNREAD_SECONDS", 0.2)
    api = await start_api()
    await api.post_bodies("q", *["x" * 12000] * 20)
    async with raw(api) as lazy:
        lazy.stop_reading()
        for _ in range(100):
            lazy.send(TEXT, PAGE)
        other = await connect(api)
        assert (await other.ask("queue_list")).status == 200

        await _until(lambda: api.service.metrics.sockets.open == 1)


async def test_the_next_answer_for_a_client_that_does_not_read_counts_as_unread(
    start_api: StartApi,
) -> None:
    api = await start_api(max_buffered_bytes=4_500_000)
    for _ in range(20):
        await api.post_bodies("q", "x" * 250_000)
    async with raw(api) as lazy:
        lazy.stop_reading()
        for _ in range(2):
            lazy.send(TEXT, PAGE)

        await _until(lambda: api.service.metrics.overloads["buffers"] == 1)

    await _until(lambda: api.service.metrics.sockets.open == 0)


async def test_a_client_that_answers_no_ping_loses_its_socket(start_api: StartApi) -> None:
    api = await start_api(websocket_ping_seconds=0.1)
    async with raw(api) as socket:
        opcode, _ = await socket.receive()

        assert opcode == PING
        assert await socket.end() == 1011


async def test_a_client_that_answers_pings_keeps_its_socket(start: Start) -> None:
    client = await start(websocket_ping_seconds=0.05)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.socket.receive()

    assert (await client.ask("queue_list")).status == 200


async def test_a_stop_lets_the_answer_under_way_out(api: Api, client: Client) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    service = api.service
    list_queues = service.storage.queues.list

    async def slowly(*arguments: Any, **named: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await list_queues(*arguments, **named)

    service.storage.queues.list = slowly
    asking = asyncio.create_task(client.ask("queue_list"))
    await entered.wait()
    for connection in list(api.connections):
        connection.shutdown()
    go_on.set()

    assert (await asking).status == 200
    assert await client.end() == (1001, "The server stops.")


async def test_a_stop_closes_a_silent_socket_at_once(api: Api, client: Client) -> None:
    for connection in list(api.connections):
        connection.shutdown()

    assert await client.end() == (1001, "The server stops.")


async def test_logs_show_no_token_and_no_body(
    api: Api, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = await connect(api, "/?url_signature=topsecret", {"X-Auth-Token": "topsecret"})

    await client.ask("queue_create", queue_name="topsecret", headers={"X-Auth-Token": "topsecret"})
    await client.send("topsecret")
    await client.socket.close()

    own = [record for record in caplog.records if not record.name.startswith("aiohttp")]
    assert [one.__dict__["frame"] for one in own if one.message == "frame"] == [
        "queue_create",
        "unknown",
    ]
    assert "topsecret" not in "".join(str(record.__dict__) for record in own)


async def test_a_change_is_audited(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    client = await start(audit=True)

    await client.ask("queue_create", queue_name="q")
    await client.ask("queue_get", queue_name="q")

    [record] = [one for one in caplog.records if one.__dict__.get("action") == "audit"]
    facts = record.__dict__
    assert (facts["rule"], facts["queue"], facts["project"]) == ("queues:create", "q", PROJECT)
    assert (facts["method"], facts["status"]) == ("PUT", 201)
    assert facts["request_id"].startswith("req-")


async def test_metrics_count_sockets_and_frames(api: Api, client: Client) -> None:
    await client.ask("queue_list")
    await client.send("nonsense")

    shown = (await api.get("/metrics")).body.decode()

    assert "zaqar_notify_sockets_open 1.0" in shown
    assert 'zaqar_notify_socket_frames_total{action="queue_list",status="200"} 1.0' in shown
    assert 'zaqar_notify_socket_frames_total{action="unknown",status="400"} 1.0' in shown


async def test_a_project_over_its_rate_is_refused(start: Start) -> None:
    client = await start(quota_requests_per_second=1, quota_burst_seconds=1)

    statuses = [(await client.ask("queue_list")).status for _ in range(2)]

    assert statuses == [200, 503]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a count tells nobody
            await asyncio.sleep(0.02)
