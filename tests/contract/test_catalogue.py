"""The catalogue: an entry is made once, moved on purpose, and goes only when nobody uses its queue."""

from __future__ import annotations

import asyncio

from tests.clock import START
from tests.contract.steps import after
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.catalogue import Entry
from zaqar_notify.storage.planes import Storage


async def test_a_queue_has_no_entry_at_first(storage: Storage, queue: QueueRef) -> None:
    assert await storage.control.catalogue.get(queue) is None


async def test_the_first_pool_stays(storage: Storage, queue: QueueRef) -> None:
    catalogue = storage.control.catalogue

    placed = [await catalogue.place(queue, pool, now=START) for pool in ("a", "b")]

    assert placed == ["a", "a"]
    assert await catalogue.get(queue) == "a"


async def test_of_callers_that_place_a_queue_at_once_all_learn_the_same_pool(
    storage: Storage, queue: QueueRef
) -> None:
    place = storage.control.catalogue.place

    placed = await asyncio.gather(*(place(queue, f"{pool}", now=START) for pool in range(10)))

    assert len(set(placed)) == 1


async def test_a_move_needs_the_source(storage: Storage, queue: QueueRef) -> None:
    catalogue = storage.control.catalogue
    await catalogue.place(queue, "a", now=START)

    assert not await catalogue.move(queue, "b", "c")
    assert await catalogue.get(queue) == "a"
    assert await catalogue.move(queue, "a", "b")
    assert await catalogue.get(queue) == "b"


async def test_a_new_entry_is_doubted_until_it_is_believed(
    storage: Storage, queue: QueueRef
) -> None:
    catalogue = storage.control.catalogue
    await catalogue.place(queue, "a", now=START)

    assert await catalogue.doubted(before=START, limit=10) == []
    [entry] = await catalogue.doubted(before=after(1), limit=10)
    assert entry == Entry(queue, "a", START)
    await catalogue.believe(entry)
    assert await catalogue.doubted(before=after(1), limit=10) == []
    await catalogue.remove(entry)
    assert await catalogue.get(queue) == "a"


async def test_an_entry_that_was_doubted_anew_is_neither_believed_nor_removed(
    storage: Storage, queue: QueueRef
) -> None:
    catalogue = storage.control.catalogue
    await catalogue.place(queue, "a", now=START)
    [entry] = await catalogue.doubted(before=after(1), limit=10)

    await catalogue.place(queue, "b", now=after(5))
    await catalogue.remove(entry)
    await catalogue.believe(entry)

    assert await catalogue.doubted(before=after(6), limit=10) == [Entry(queue, "a", after(5))]


async def test_a_doubted_entry_is_removed(storage: Storage, queue: QueueRef) -> None:
    catalogue = storage.control.catalogue
    await catalogue.doubt(queue, now=START)
    await catalogue.place(queue, "a", now=START)
    await catalogue.doubt(queue, now=after(2))

    [entry] = await catalogue.doubted(before=after(3), limit=10)
    await catalogue.remove(entry)

    assert await catalogue.get(queue) is None


async def test_the_longest_doubted_come_first(storage: Storage, queue: QueueRef) -> None:
    catalogue = storage.control.catalogue
    refs = [QueueRef(queue.project, name) for name in "cab"]
    for seconds, ref in enumerate(refs):
        await catalogue.place(ref, "a", now=after(seconds))

    found = await catalogue.doubted(before=after(9), limit=2)

    assert [entry.ref for entry in found] == refs[:2]


async def test_queues_of_a_pool_are_listed_in_order(storage: Storage, queue: QueueRef) -> None:
    catalogue = storage.control.catalogue
    refs = [QueueRef(project, name) for project in ("p1", "p2") for name in ("a", "b")]
    for ref in reversed(refs):
        await catalogue.place(ref, "pool", now=START)
    await catalogue.place(queue, "other", now=START)

    assert await catalogue.of_pool("pool", after=None, limit=3) == refs[:3]
    assert await catalogue.of_pool("pool", after=refs[2], limit=3) == refs[3:]
    assert await catalogue.of_pool("none", after=None, limit=3) == []


async def test_of_two_attempts_to_move_a_queue_only_the_one_that_is_let_can(
    storage: Storage, queue: QueueRef
) -> None:
    catalogue = storage.control.catalogue
    await catalogue.place(queue, "a", now=START)
    assert not await catalogue.let(queue, "b", "first")
    assert await catalogue.let(queue, "a", "first")
    assert await catalogue.let(queue, "a", "second")

    assert not await catalogue.move(queue, "a", "b", attempt="first")
    assert await catalogue.move(queue, "a", "b", attempt="second")
    assert not await catalogue.let(queue, "a", "")
    assert not await catalogue.move(queue, "b", "a", attempt="second")
    assert await catalogue.get(queue) == "b"


async def test_no_attempt_is_let_after_it_was_given_up(storage: Storage, queue: QueueRef) -> None:
    catalogue = storage.control.catalogue
    await catalogue.place(queue, "a", now=START)
    await catalogue.let(queue, "a", "first")
    await catalogue.let(queue, "a", "")

    assert not await catalogue.move(queue, "a", "b", attempt="first")
