"""What is asked for at the same time costs the store one command."""

from __future__ import annotations

import asyncio

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
