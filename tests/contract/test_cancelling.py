"""A message that is deleted before its delay has ended is known as cancelled; its job passes it by."""

from __future__ import annotations

from collections.abc import Sequence, Set

from tests.clock import START
from tests.contract.steps import after, claim, everything, hold, post, post_one
from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.base import CANCELLED_KEPT
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

DELAY = 60


async def cancelled(storage: Storage, queue: QueueRef, *ids: str) -> Set[str]:
    """Those of the messages that were due after DELAY and were cancelled."""
    return await storage.messages.cancelled(queue, dict.fromkeys(ids, after(DELAY)))


async def delayed(storage: Storage, queue: QueueRef, *bodies: str) -> Sequence[str]:
    return (await post(storage, queue, bodies=bodies, delay=DELAY)).ids


async def test_messages_that_exist_or_never_existed_are_not_cancelled(
    storage: Storage, queue: QueueRef
) -> None:
    [there] = await delayed(storage, queue, "a")

    assert await cancelled(storage, queue, there, "0" * 24, "no such id", "0" * 16) == set()


async def test_a_deletion_before_it_is_due_cancels(storage: Storage, queue: QueueRef) -> None:
    first, second, kept = await delayed(storage, queue, "a", "b", "c")

    await storage.messages.delete(queue, first, claim_id=None, now=after(DELAY - 0.001))
    await storage.messages.delete(queue, second, claim_id=None, now=START)

    assert await cancelled(storage, queue, first, second, kept) == {first, second}
    assert [message.id for message in await everything(storage, queue)] == [kept]


async def test_cancelled_messages_are_found_among_a_great_many(
    storage: Storage, queue: QueueRef
) -> None:
    first, last = await delayed(storage, queue, "a", "b")
    await storage.messages.delete(queue, last, claim_id=None, now=START)

    others = [f"{number}" for number in range(40_000)]

    assert await cancelled(storage, queue, first, *others, last) == {last}


async def test_a_deletion_of_what_is_due_does_not(storage: Storage, queue: QueueRef) -> None:
    first, claimed, second = await delayed(storage, queue, "a", "b", "c")
    await storage.messages.delete(queue, first, claim_id=None, now=after(DELAY))
    held = await hold(storage, queue, limit=1, now=after(DELAY))
    await storage.messages.delete(queue, claimed, claim_id=held.id, now=after(DELAY))
    await storage.messages.pop(queue, limit=1, now=after(DELAY))

    assert await everything(storage, queue) == []
    assert await cancelled(storage, queue, first, claimed, second) == set()


async def test_a_deletion_of_what_has_no_delay_does_not(storage: Storage, queue: QueueRef) -> None:
    free, claimed = (await post(storage, queue, bodies=["a", "b"])).ids
    await storage.messages.delete(queue, free, claim_id=None, now=START)
    await claim(storage, queue)
    await storage.messages.delete_many(queue, [free, claimed], claim_ids=None, now=START)

    assert await cancelled(storage, queue, free, claimed) == set()


async def test_a_deletion_of_many_cancels_those_that_are_not_due(
    storage: Storage, queue: QueueRef
) -> None:
    free = await post_one(storage, queue, "free")
    held = await hold(storage, queue)
    first, second, kept = await delayed(storage, queue, "a", "b", "c")
    await storage.messages.delete_many(
        queue, [free, first, "no such id"], claim_ids=None, now=START
    )
    await storage.messages.delete_many(queue, [second], claim_ids=[held.id], now=START)

    assert await cancelled(storage, queue, free, first, second, kept) == {first, second}
    assert [message.id for message in await everything(storage, queue)] == [kept]


async def test_a_cancelled_message_is_gone_for_good(storage: Storage, queue: QueueRef) -> None:
    [message_id] = await delayed(storage, queue, "a")
    await storage.messages.delete(queue, message_id, claim_id=None, now=START)

    await storage.messages.delete(queue, message_id, claim_id=None, now=START)
    await storage.messages.delete_many(queue, [message_id], claim_ids=None, now=START)

    assert await storage.messages.get(queue, [message_id], now=START) == []
    assert await everything(storage, queue) == []
    assert (await storage.queues.stats(queue, now=START)).total == 0
    assert await claim(storage, queue, now=after(DELAY)) is None


async def test_a_purge_before_they_are_due_cancels_them_all(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    ids = await delayed(storage, queue, "a", "b")
    others = await delayed(storage, other_queue, "c")

    await storage.messages.purge(queue, now=after(DELAY - 0.001))

    assert await cancelled(storage, queue, *ids) == set(ids)
    assert await cancelled(storage, other_queue, *others, *ids) == set()


async def test_a_purge_once_they_are_due_cancels_none(storage: Storage, queue: QueueRef) -> None:
    ids = await delayed(storage, queue, "a", "b")
    await post(storage, queue, bodies=["c"], delay=DELAY * 2)

    await storage.messages.purge(queue, now=after(DELAY))

    assert await cancelled(storage, queue, *ids) == set()


async def test_the_queue_s_deletion_cancels_as_a_purge_does(
    storage: Storage, queue: QueueRef
) -> None:
    ids = await delayed(storage, queue, "a", "b")

    await storage.queues.delete(queue, now=START)

    assert await cancelled(storage, queue, *ids) == set(ids)


async def test_what_is_posted_in_the_moment_after_a_purge_is_not_cancelled(
    storage: Storage, queue: QueueRef
) -> None:
    before = await delayed(storage, queue, "a")
    await storage.messages.purge(queue, now=START)
    new = await delayed(storage, queue, "b")
    await storage.queues.delete(queue, now=START)
    newest = await delayed(storage, queue, "c")

    assert await cancelled(storage, queue, *before, *new, *newest) == {*before, *new}


async def test_what_was_cancelled_stays_so_when_the_queue_is_purged_later(
    storage: Storage, queue: QueueRef
) -> None:
    gone, due = await delayed(storage, queue, "a", "b")
    await storage.messages.delete(queue, gone, claim_id=None, now=START)
    for instant in (DELAY, DELAY + 1):
        await storage.messages.purge(queue, now=after(instant))
        await post_one(storage, queue, "c", delay=DELAY, now=after(instant))
    await storage.queues.delete(queue, now=after(DELAY + 2))

    assert await cancelled(storage, queue, gone, due) == {gone}


async def test_it_is_known_after_a_restart_and_a_sweep(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    gone, purged = await delayed(storage, queue, "a", "b")
    await storage.messages.delete(queue, gone, claim_id=None, now=START)
    await storage.messages.purge(queue, now=START)
    for _ in range(3):
        await storage.sweep(now=START + CANCELLED_KEPT / 2, limit=1000)
    await storage.close()

    storage = await open_storage(store_uri)

    assert await cancelled(storage, queue, gone, purged) == {gone, purged}
    await storage.close()


async def test_a_deletion_of_many_cancels_beside_what_came_from_another_queue(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    rule = DeadLetter(queue, max_claim_count=0, ttl=None)
    moved = await post_one(storage, other_queue, "a")
    await claim(storage, other_queue, dead_letter=rule)
    [gone] = await delayed(storage, queue, "b")

    await storage.messages.delete_many(queue, [moved, gone], claim_ids=None, now=START)

    assert await everything(storage, queue) == []
    assert await cancelled(storage, queue, moved, gone) == {gone}
