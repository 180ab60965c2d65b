"""Deletions that are noted first: as much is cleared as is added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.steps import bodies, page, post
from tests.sqlite.opened import database_of
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite.removals import MOST_NOTED

QUEUE = QueueRef("p", "q")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    yield storage
    await storage.close()


def noted(storage: Storage) -> int:
    [[count]] = database_of(storage).read("SELECT count(*) FROM removals")
    assert isinstance(count, int)
    return count


async def test_however_many_pop_at_the_same_time_what_is_noted_is_bounded(
    storage: Storage,
) -> None:
    for _ in range(10):
        await post(storage, QUEUE, bodies=[f"{number}" for number in range(500)])
    popped: list[str] = []
    most = 0

    async def consume(limit: int) -> None:
        nonlocal most
        while messages := await storage.messages.pop(QUEUE, limit=limit, now=START):
            popped.extend(message.id for message in messages)
            most = max(most, noted(storage))

    await asyncio.gather(*(consume(limit) for limit in (9, 20) * 40))

    assert len(popped) == len(set(popped)) == 5000
    assert most <= MOST_NOTED


async def test_however_many_are_deleted_at_the_same_time_what_is_noted_is_bounded(
    storage: Storage,
) -> None:
    posted = await post(storage, QUEUE, bodies=[f"{number}" for number in range(3000)])
    *deleted, kept = posted.ids

    await asyncio.gather(
        *(storage.messages.delete(QUEUE, each, claim_id=None, now=START) for each in deleted)
    )

    assert noted(storage) <= MOST_NOTED
    assert bodies(await page(storage, QUEUE)) == ["2999"]
    assert [message.id for message in await storage.messages.get(QUEUE, [kept], now=START)] == [
        kept
    ]


async def test_a_reader_under_way_sees_what_it_began_with_or_less(storage: Storage) -> None:
    await post(storage, QUEUE, bodies=[f"{number}" for number in range(2000)])

    seen, _ = await asyncio.gather(
        page(storage, QUEUE, limit=2000),
        asyncio.gather(*(storage.messages.pop(QUEUE, limit=20, now=START) for _ in range(50))),
    )

    numbers = [int(body) for body in bodies(seen)]
    assert numbers == sorted(numbers)
    assert set(range(1000, 2000)) <= set(numbers)
