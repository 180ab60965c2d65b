"""A project that asks for much waits for its own requests, and delays no other project."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from api import turns
from api.turns import LARGE_BYTES, MOST_AT_ONCE_BYTES, Line, Metered, Turns
from tests.api.conftest import CLIENT_ID, Api, StartApi
from tests.api.test_connection_limits import PAGE, PAGE_BYTES, fill, pages_made, slow_reader
from tests.workers.office import until

OTHERS = f"Host: x\r\nClient-ID: {CLIENT_ID}\r\nX-Project-ID: p2\r\n".encode()
LARGE = 5_000_000
PAGES = 40


@pytest.fixture
async def readers(api: Api) -> AsyncIterator[list[socket.socket]]:
    """Connections whose clients have not asked for anything yet."""
    await fill(api)
    sockets = [await slow_reader(api) for _ in range(PAGES)]
    await until(lambda: len(api.connections) >= PAGES)
    yield sockets
    for each in sockets:
        each.close()


@pytest.fixture
def line() -> Line:
    return Turns(most_buffered_bytes=4 * LARGE).of("p1")


async def test_others_are_answered_between_the_large_pages_of_a_project(
    api: Api, readers: list[socket.socket]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)

    for each in readers:
        each.send(PAGE)
    writer.write(b"GET /v2/queues/small/messages HTTP/1.1\r\n" + OTHERS + b"\r\n")
    async with asyncio.timeout(20):
        await reader.readuntil(b"\r\n\r\n")

    assert pages_made(api) <= PAGES // 4
    writer.close()


async def test_readers_of_one_project_wait_rather_than_lose_their_connections(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.turns.READ_SECONDS", 60)
    api = await start_api(max_buffered_bytes=4 * PAGE_BYTES)
    await fill(api)

    async def page() -> int:
        reply = await api.get("/v2/queues/q/messages?echo=true&limit=20")
        return len(reply.body)

    sizes = await asyncio.gather(*(page() for _ in range(20)))

    assert min(sizes) > PAGE_BYTES


async def test_long_polls_keep_no_turns(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.turns.STUCK_SECONDS", 60)
    waiting = [asyncio.create_task(api.get("/v2/queues/empty/messages?wait=20")) for _ in range(40)]
    await until(lambda: len([each for each in api.connections if each.cycle]) == 40)

    async with asyncio.timeout(10):
        assert (await api.get("/v2/queues/empty/messages")).status == 200

    for each in waiting:
        each.cancel()


async def test_few_large_answers_are_made_at_once_and_many_small_ones(line: Line) -> None:
    for size, at_once in ((0, MOST_AT_ONCE_BYTES // LARGE_BYTES), (LARGE, 2)):
        for _ in range(10):  # It learns the size of the pages.
            (await line.begin()).end(size)
            await asyncio.sleep(0)
        asked = [asyncio.create_task(line.begin()) for _ in range(50)]
        await asyncio.sleep(0)

        has_turn = [each for each in asked if each.done()]

        assert len(has_turn) == at_once
        assert has_turn == asked[:at_once]
        for each in asked:
            (await each).end(size)


async def test_a_turn_whose_request_is_gone_goes_to_the_next(line: Line) -> None:
    turns = [await line.begin() for _ in range(MOST_AT_ONCE_BYTES // LARGE_BYTES)]
    gone, next_one, last = [asyncio.create_task(line.begin()) for _ in range(3)]
    await asyncio.sleep(0)

    turns[0].end(0)
    gone.cancel()  # It has just been given the turn.
    async with asyncio.timeout(10):
        (await next_one).end(0)
        (await last).end(0)

    assert gone.cancelled()


async def test_an_answer_that_is_not_read_makes_others_wait_for_a_while_only(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.turns.READ_SECONDS", 0.05)
    never = asyncio.Event()

    unread = asyncio.create_task(line.unread(LARGE, never.wait))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        turn = await line.begin()

    assert unread.done()
    turn.end(0)


async def test_nobody_waits_for_the_turns_of_a_store_that_is_stuck(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.turns.STUCK_SECONDS", 0.05)

    async with asyncio.timeout(10):
        turns = await asyncio.gather(*(line.begin() for _ in range(100)))

    for each in turns:
        each.end(0)


async def test_small_answers_that_take_long_to_make_are_made_like_large_ones(line: Line) -> None:
    for _ in range(10):
        (await line.begin()).end(100, seconds=LARGE / turns.BYTES_PER_SECOND)
        await asyncio.sleep(0)

    asked = [asyncio.create_task(line.begin()) for _ in range(20)]
    await asyncio.sleep(0)

    assert sum(each.done() for each in asked) == 2
    for each in asked:
        (await each).end(0)


async def test_time_counts_in_which_the_event_loop_was_busy_not_that_of_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("api.turns.perf_counter", lambda: clock[0])
    found = asyncio.Event()

    async def read() -> str:
        clock[0] += 1
        await found.wait()
        clock[0] += 2
        return "page"

    making = Metered(read())
    asked = asyncio.ensure_future(making)
    await asyncio.sleep(0)
    clock[0] += 1000
    found.set()

    assert await asked == "page"
    assert making.seconds == 3


async def test_a_request_that_is_cancelled_in_its_turn_ends_at_once() -> None:
    ended = asyncio.Event()

    async def read() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asked = asyncio.ensure_future(Metered(read()))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    assert ended.is_set()
