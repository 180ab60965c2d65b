"""The bounds of a connection hold under TLS, from its first byte on."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from api import connection, tls
from tests.api.conftest import Api, StartApi
from tests.api.test_connection import IDENTITY, KEPT
from tests.api.test_connection_limits import PAGE, PAGE_BYTES, PING, ask, pages_made
from tests.tls.conftest import Connect
from tests.workers.office import until

OVER = (*KEPT, tls.Encrypted, tls.Handshake)
ALIVE = b"HTTP/1.1 204 No Content"
LAST_PAGE = PAGE.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")


async def fill(api: Api, connect: Connect) -> None:
    """20 messages of 250,000 bytes, which make one page."""
    body = json.dumps({"messages": [{"body": "x" * 250_000}]}).encode()
    head = b"POST /v2/queues/q/messages HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n"
    reader, writer = await connect(api)
    for _ in range(20):
        writer.write(head % (IDENTITY, len(body)) + body)
        answer = await reader.readuntil(b"]}")
        assert answer.startswith(b"HTTP/1.1 201 ")


async def slow_reader(api: Api, context: ssl.SSLContext, sent: bytes) -> ssl.SSLSocket:
    """A client that has sent something, and has room for little of the answer."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def begin() -> ssl.SSLSocket:
        plain.connect(("127.0.0.1", api.port))
        client = context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
        client.sendall(sent)
        return client

    return await asyncio.to_thread(begin)


@pytest.fixture
async def strangers() -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Connections without TLS, closed at the end."""
    writers: list[asyncio.StreamWriter] = []
    yield writers
    for writer in writers:
        writer.close()


async def test_handshakes_under_way_count_as_connections(
    start: StartApi, connect: Connect, strangers: list[asyncio.StreamWriter]
) -> None:
    api = await start(max_connections=2)
    silent = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(2)]
    strangers += [writer for _, writer in silent]
    await until(lambda: len(api.connections) == 2)

    assert await ask(await connect(api)) == ALIVE

    assert await silent[0][0].read() == b""
    assert len(api.connections) == 2


async def test_a_handshake_that_is_not_finished_loses_its_connection(
    start: StartApi, strangers: list[asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.05)
    api = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    strangers.append(writer)
    writer.write(b"\x16\x03\x01\x02\x00\x01")  # The first bytes of a ClientHello.

    assert await asyncio.wait_for(reader.read(), 10) == b""
    await until(lambda: not api.connections)


async def test_a_client_without_tls_gets_no_answer_and_others_go_on(
    start: StartApi, connect: Connect, strangers: list[asyncio.StreamWriter]
) -> None:
    api = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    strangers.append(writer)

    writer.write(PING)

    assert not (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP")
    assert await ask(await connect(api)) == ALIVE


async def test_requests_that_come_right_behind_the_handshake_are_read(
    start: StartApi, connect: Connect
) -> None:
    api = await start()

    readers = [(await connect(api, PING, PING))[0] for _ in range(20)]

    for reader in readers:
        for _ in range(2):
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.startswith(ALIVE)


async def test_weak_ciphers_are_refused_and_the_log_says_so(
    start: StartApi,
    connect: Connect,
    trusting: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    api = await start()
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    trusting.set_ciphers("AES128-SHA256:ECDHE-ECDSA-AES128-SHA256")

    with pytest.raises(OSError):  # noqa: PT011 - uvloop closes without TLS's own message
        await connect(api)

    assert "handshake_failed" in [getattr(each, "action", "") for each in caplog.records]
    trusting.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert await ask(await connect(api)) == ALIVE


async def test_answers_that_are_not_read_have_a_budget(
    start: StartApi, connect: Connect, trusting: ssl.SSLContext
) -> None:
    api = await start(max_buffered_bytes=3 * PAGE_BYTES)
    await fill(api, connect)

    clients = [await slow_reader(api, trusting, PAGE) for _ in range(6)]

    await until(lambda: pages_made(api) == 6)
    await until(lambda: len([each for each in api.connections if each.buffered_bytes()]) <= 3)
    kept = [each.buffered_bytes() for each in api.connections if each.buffered_bytes()]
    assert kept
    assert all(size >= PAGE_BYTES for size in kept)
    for client in clients:
        client.close()


async def test_a_client_that_reads_nothing_is_given_no_second_answer(
    start: StartApi, connect: Connect, trusting: ssl.SSLContext
) -> None:
    api = await start()
    await fill(api, connect)

    client = await slow_reader(api, trusting, PAGE * 3)
    await until(lambda: any(each.buffered_bytes() for each in api.connections))
    await asyncio.sleep(0.2)  # Time for a thing that must not happen.

    assert pages_made(api) == 1
    assert await asyncio.to_thread(_read, client, 3 * PAGE_BYTES) > 3 * PAGE_BYTES
    client.close()


async def test_an_answer_that_is_not_read_loses_its_connection(
    start: StartApi, connect: Connect, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await start()
    await fill(api, connect)
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.05)
    before = len(api.connections)

    client = await slow_reader(api, trusting, PAGE)

    await until(lambda: pages_made(api) == 1 and len(api.connections) == before)
    client.close()


async def test_the_last_answer_of_a_connection_comes_whole_and_with_its_end(
    start: StartApi, connect: Connect, trusting: ssl.SSLContext
) -> None:
    api = await start()
    await fill(api, connect)

    client = await slow_reader(api, trusting, LAST_PAGE)
    received = await asyncio.to_thread(_read, client, 2 * PAGE_BYTES)

    assert received > PAGE_BYTES
    client.close()


def _read(client: ssl.SSLSocket, most: int) -> int:
    """The number of bytes until the end; an end without TLS's own is an error."""
    client.settimeout(20)
    received = 0
    while received <= most and (piece := client.recv(1 << 16)):
        received += len(piece)
    return received


async def test_an_early_refusal_takes_the_body_off_the_wire(
    start: StartApi, trusting: ssl.SSLContext
) -> None:
    api = await start()
    head = b"POST /v2/queues/q/messages HTTP/1.1\r\n%bContent-Length: 2500000\r\n\r\n" % IDENTITY

    client = await slow_reader(api, trusting, head + b"x" * 2_500_000)
    answer = await asyncio.to_thread(client.recv, 65536)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    client.close()


async def test_the_end_that_a_client_announces_is_answered(
    start: StartApi, trusting: ssl.SSLContext
) -> None:
    api = await start()

    client = await slow_reader(api, trusting, PING)
    await asyncio.to_thread(client.recv, 65536)
    plain = await asyncio.to_thread(client.unwrap)

    assert await asyncio.to_thread(plain.recv, 1) == b""
    await until(lambda: not api.connections)
    plain.close()


async def test_a_stop_ends_handshakes_and_idle_connections(
    start: StartApi, connect: Connect, strangers: list[asyncio.StreamWriter]
) -> None:
    api = await start()
    reader, _ = streams = await connect(api)
    await ask(streams)
    silent, writer = await asyncio.open_connection("127.0.0.1", api.port)
    strangers.append(writer)
    await until(lambda: len(api.connections) == 2)

    for each in list(api.connections):
        each.shutdown()

    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert await asyncio.wait_for(silent.read(), 10) == b""


def connections_in_memory() -> list[object]:
    return [each for each in gc.get_objects() if type(each) in OVER]


async def test_a_connection_that_is_over_leaves_nothing_to_the_garbage_collector(
    start: StartApi, connect: Connect
) -> None:
    api = await start()
    gc.collect()
    of_other_tests = connections_in_memory()
    gc.disable()
    try:
        for _ in range(5):
            streams = await connect(api)
            await ask(streams)
            streams[1].close()
            await until(lambda: not api.connections)
        await until(lambda: len(connections_in_memory()) <= len(of_other_tests))
    finally:
        gc.enable()
