"""Reads that take long delay those of their own project, and few others."""

from __future__ import annotations

import asyncio

import pytest

from zaqar_notify.storage.sqlite.slow_reads import MOST_AT_ONCE, SlowReads


class Reader:
    """Reads that end when they are told to."""

    def __init__(self, reads: SlowReads) -> None:
        self._reads = reads
        self.under_way: list[str] = []
        self.end = asyncio.Event()

    async def read(self, project: str) -> None:
        async with self._reads.turn(project):
            self.under_way.append(project)
            await self.end.wait()


@pytest.fixture
def reader() -> Reader:
    return Reader(SlowReads())


async def test_a_project_that_asks_for_many_leaves_room_for_another(reader: Reader) -> None:
    many = [asyncio.create_task(reader.read("greedy")) for _ in range(100)]
    await asyncio.sleep(0)
    other = asyncio.create_task(reader.read("other"))
    await asyncio.sleep(0)

    assert reader.under_way == ["greedy", "other"]

    reader.end.set()
    await asyncio.gather(*many, other)
    assert len(reader.under_way) == 101


async def test_few_run_at_once_however_many_projects_ask(reader: Reader) -> None:
    asked = [asyncio.create_task(reader.read(f"p{number}")) for number in range(50)]
    await asyncio.sleep(0)

    assert len(reader.under_way) == MOST_AT_ONCE

    reader.end.set()
    await asyncio.gather(*asked)
    assert len(reader.under_way) == 50


async def test_a_read_that_is_cancelled_while_it_waits_keeps_no_turn(reader: Reader) -> None:
    first, waiting = [asyncio.create_task(reader.read("p1")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting.cancel()
    reader.end.set()
    await first

    async with asyncio.timeout(10):
        await reader.read("p1")

    assert len(reader.under_way) == 2
