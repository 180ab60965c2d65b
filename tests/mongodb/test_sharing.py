"""Equal requests at the same time cost the store one command."""

from __future__ import annotations

import asyncio

from tests.clock import START
from tests.contract.steps import bodies, page, post
from tests.mongodb.commands import Commands
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage


def names(commands: Commands) -> list[str]:
    return [next(iter(command)) for command in commands.sent]


async def test_observers_that_read_one_page_at_the_same_time_share_its_read(
    commands: Commands, storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b", "c"])
    commands.sent.clear()

    pages = await asyncio.gather(*(page(storage, queue, limit=2) for _ in range(50)))

    assert {tuple(bodies(one)) for one in pages} == {("a", "b")}
    # The queue's document and the page.
    assert names(commands) == ["find", "find"]


async def test_observers_at_different_markers_read_different_pages(
    storage: Storage, queue: QueueRef
) -> None:
    [first, second, _] = (await post(storage, queue, bodies=["a", "b", "c"])).ids

    pages = await asyncio.gather(
        *(page(storage, queue, marker=marker) for marker in (None, first, second, first))
    )

    assert [bodies(one) for one in pages] == [["a", "b", "c"], ["b", "c"], ["c"], ["b", "c"]]


async def test_consumers_that_pop_at_the_same_time_share_one_reading_and_one_removal(
    commands: Commands, storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=[f"{number}" for number in range(120)])
    commands.sent.clear()

    popped = await asyncio.gather(
        *(storage.messages.pop(queue, limit=2, now=START) for _ in range(50))
    )

    assert [len(messages) for messages in popped] == [2] * 50
    assert sorted(int(body) for messages in popped for body in bodies(messages)) == list(range(100))
    assert len(names(commands)) < 10
