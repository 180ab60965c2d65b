"""What is asked for at the same time costs the store one command."""

from __future__ import annotations

import asyncio

from tests.clock import START
from tests.contract.steps import bodies, page, post
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.mongodb import MongoStorage


async def test_observers_that_read_one_page_at_the_same_time_share_its_read(
    storage: MongoStorage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b", "c"])
    before = await finds(storage)

    pages = await asyncio.gather(*(page(storage, queue, limit=2) for _ in range(50)))

    assert {tuple(bodies(one)) for one in pages} == {("a", "b")}
    # The queue's document and the page; on a shared server, another's command may slip in.
    assert await finds(storage) - before < 10


async def test_observers_at_different_markers_read_different_pages(
    storage: MongoStorage, queue: QueueRef
) -> None:
    [first, second, _] = (await post(storage, queue, bodies=["a", "b", "c"])).ids

    pages = await asyncio.gather(
        *(page(storage, queue, marker=marker) for marker in (None, first, second, first))
    )

    assert [bodies(one) for one in pages] == [["a", "b", "c"], ["b", "c"], ["c"], ["b", "c"]]


async def finds(storage: MongoStorage) -> int:
    status = await storage._connection.client.admin.command("serverStatus")
    return int(status["opcounters"]["query"])


async def test_consumers_that_pop_at_the_same_time_share_one_reading_and_one_removal(
    storage: MongoStorage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=[f"{number}" for number in range(120)])
    before = await writes(storage)

    popped = await asyncio.gather(
        *(storage.messages.pop(queue, limit=2, now=START) for _ in range(50))
    )

    assert [len(messages) for messages in popped] == [2] * 50
    assert sorted(int(body) for messages in popped for body in bodies(messages)) == list(range(100))
    assert await writes(storage) - before < 10


async def writes(storage: MongoStorage) -> int:
    status = await storage._connection.client.admin.command("serverStatus")
    return int(status["opcounters"]["update"]) + int(status["opcounters"]["delete"])
