"""How many connections there may be at once, and how much of their answers they may leave unread."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.api.conftest import CLIENT_ID, Api, StartApi
from tests.workers.office import until

IDENTITY = f"Host: x\r\nClient-ID: {CLIENT_ID}\r\nX-Project-ID: p1\r\n".encode()
PING = b"GET /v2/ping HTTP/1.1\r\n" + IDENTITY + b"\r\n"
LONG_POLL = b"GET /v2/queues/empty/messages?wait=20 HTTP/1.1\r\n" + IDENTITY + b"\r\n"
PAGE = b"GET /v2/queues/q/messages?echo=true&limit=20 HTTP/1.1\r\n" + IDENTITY + b"\r\n"
PAGE_BYTES = 20 * 250_000

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Streams]]]:
    """Opens connections, and sends given bytes."""
    writers = []

    async def opened(api: Api, *sent: bytes) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writers.append(writer)
        writer.write(b"".join(sent))
        return reader, writer

    yield opened
    for writer in writers:
        writer.transport.abort()


Connect = Callable[..., Awaitable[Streams]]


async def ask(streams: Streams) -> bytes:
    """The status line of the answer to a ping."""
    streams[1].write(PING)
    answer = await asyncio.wait_for(streams[0].readuntil(b"\r\n\r\n"), 10)
    return answer.partition(b"\r\n")[0]


async def test_the_connection_that_was_idle_longest_makes_room(
    start_api: StartApi, connect: Connect
) -> None:
    api = await start_api(max_connections=3)
    silent, oldest, newer = [await connect(api) for _ in range(3)]
    for streams in (oldest, newer, oldest):
        await ask(streams)

    another = await connect(api)
    assert await ask(another) == b"HTTP/1.1 204 No Content"
    assert await silent[0].read() == b""

    await ask(await connect(api))
    assert await newer[0].read() == b""
    assert await ask(oldest) == b"HTTP/1.1 204 No Content"


async def test_a_connection_at_work_is_left_alone_and_a_new_one_is_told(
    start_api: StartApi, connect: Connect
) -> None:
    api = await start_api(max_connections=2)
    for _ in range(2):
        await connect(api, LONG_POLL)
    await until(lambda: len([each for each in api.connections if each.cycle]) == 2)

    reader, _ = await connect(api)

    refusal = await asyncio.wait_for(reader.read(), 10)
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in refusal


async def slow_reader(api: Api, *sent: bytes) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", api.port))
    await loop.sock_sendall(client, b"".join(sent))
    return client


async def fill(api: Api) -> None:
    for _ in range(20):
        await api.post_bodies("q", "x" * 250_000)


def pages_made(api: Api) -> int:
    tallies = dict(api.service.metrics.requests.items())
    tally = tallies.get(("/v2/queues/{queue_name}/messages", "GET", 200))
    return 0 if tally is None else tally.count


async def test_answers_that_are_not_read_have_a_budget(start_api: StartApi) -> None:
    api = await start_api(max_buffered_bytes=12_000_000)
    await fill(api)

    clients = [await slow_reader(api, PAGE) for _ in range(8)]

    def is_answered() -> bool:
        return all(each.cycle and each.cycle.response_complete for each in api.connections)

    await until(lambda: len(api.connections) < 8 and is_answered())
    await until(lambda: sum(each.buffered_bytes() for each in api.connections) < 12_600_000)
    assert (await api.get("/v2/queues/q/messages?echo=true&limit=20")).status == 200
    for client in clients:
        client.close()


async def test_an_answer_counts_whole_until_its_last_byte_is_sent(start_api: StartApi) -> None:
    """The system takes most of a page; the transport keeps all of it as long as it keeps any."""
    api = await start_api(max_buffered_bytes=3 * PAGE_BYTES)
    await fill(api)

    clients = [await slow_reader(api, PAGE) for _ in range(6)]

    await until(lambda: pages_made(api) == 6)
    await until(lambda: len([each for each in api.connections if each.buffered_bytes()]) <= 3)
    kept = [each.buffered_bytes() for each in api.connections if each.buffered_bytes()]
    assert kept
    assert all(size >= PAGE_BYTES for size in kept)
    for client in clients:
        client.close()


async def test_bodies_that_do_not_end_have_a_budget(start_api: StartApi, connect: Connect) -> None:
    api = await start_api(max_buffered_bytes=1_000_000)
    post = b"POST /v2/queues/q/messages HTTP/1.1\r\n" + IDENTITY + b"Content-Length: 250000\r\n\r\n"

    for _ in range(10):
        await connect(api, post, b"[" * 200_000)
    await until(lambda: len(api.connections) <= 5)

    assert sum(each.buffered_bytes() for each in api.connections) <= 1_000_000
    await api.post_bodies("q", "x" * 250_000)
    assert sum(each.buffered_bytes() for each in api.connections) <= 1_000_000


async def test_a_client_that_reads_nothing_is_given_no_second_answer(api: Api) -> None:
    await fill(api)

    client = await slow_reader(api, PAGE * 10)
    await until(lambda: any(each.buffered_bytes() for each in api.connections))
    await asyncio.sleep(0.2)  # Time for a thing that must not happen.
    assert pages_made(api) == 1

    loop = asyncio.get_running_loop()
    received = 0
    async with asyncio.timeout(20):
        while received < 10 * PAGE_BYTES and (piece := await loop.sock_recv(client, 1 << 20)):
            received += len(piece)
    assert received > 10 * PAGE_BYTES
    client.close()
