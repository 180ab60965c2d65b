"""Sweeping reclaims space and changes nothing that anybody can see."""

from __future__ import annotations

from datetime import datetime

from tests.clock import START
from tests.contract.steps import (
    after,
    bodies,
    everything,
    hold,
    idempotency_key,
    page,
    post,
    post_one,
)
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage

MORE_THAN_ENOUGH = 1000


async def sweep_all(storage: Storage, *, now: datetime, limit: int = MORE_THAN_ENOUGH) -> int:
    """Sweep until nothing is left to do; return how often something was done."""
    for turn in range(MORE_THAN_ENOUGH):
        if await storage.sweep(now=now, limit=limit) < limit:
            return turn
    raise AssertionError("the sweep finds no end")


async def test_an_empty_store_has_nothing_to_sweep(storage: Storage) -> None:
    assert await storage.sweep(now=START, limit=10) == 0


async def test_a_sweep_that_says_it_is_done_has_left_no_former_queue(
    storage: Storage, queue: QueueRef
) -> None:
    for number in range(5):
        await post(storage, queue, bodies=[f"{number}"])
        await storage.messages.purge(queue, now=START)

    await sweep_all(storage, now=START, limit=10)

    assert await storage.sweep(now=START, limit=10) == 0


async def test_expired_messages_are_removed_and_counted(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a", "b", "c"], ttl=60)
    await post(storage, queue, bodies=["kept"], ttl=61)

    assert await storage.sweep(now=after(59.999), limit=MORE_THAN_ENOUGH) == 0
    assert await storage.sweep(now=after(60), limit=MORE_THAN_ENOUGH) == 3
    assert await storage.sweep(now=after(60), limit=MORE_THAN_ENOUGH) == 0

    assert bodies(await everything(storage, queue, now=after(60))) == ["kept"]


async def test_a_sweep_removes_at_most_its_limit_and_says_when_there_is_more(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=[f"{number}" for number in range(25)], ttl=60)

    removed = [await storage.sweep(now=after(60), limit=10) for _ in range(4)]

    assert removed == [10, 10, 5, 0]


async def test_messages_of_deleted_and_purged_queues_take_finitely_many_sweeps(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    for where in (queue, other_queue):
        await post(storage, where, bodies=[f"{number}" for number in range(50)])
        await hold(storage, where, limit=10)
    await storage.queues.delete(queue, now=START)
    await storage.messages.purge(other_queue, now=START)
    await post(storage, queue, bodies=["new"])
    await post(storage, other_queue, bodies=["new"])

    await sweep_all(storage, now=START, limit=7)

    assert bodies(await everything(storage, queue)) == ["new"]
    assert bodies(await everything(storage, other_queue)) == ["new"]


async def test_a_message_under_a_claim_is_kept_while_it_lives(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"], ttl=60)
    held = await hold(storage, queue, ttl=300, grace=60)

    await sweep_all(storage, now=after(299.999))
    assert await storage.claims.get(queue, held.id, now=after(299.999)) == held

    await sweep_all(storage, now=after(300))
    assert bodies(await everything(storage, queue, now=after(300))) == ["a"]
    assert bodies(await hold(storage, queue, ttl=1, grace=0, now=after(300))) == ["a"]

    await sweep_all(storage, now=after(360))
    assert await everything(storage, queue, now=after(360)) == []


async def test_a_swept_claim_leaves_its_messages_with_their_count(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    await hold(storage, queue, ttl=60)

    await sweep_all(storage, now=after(60))

    again = await hold(storage, queue, now=after(60))
    assert [message.claim_count for message in again.messages] == [2]


async def test_a_renewed_claim_is_not_swept(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue, ttl=60)
    await storage.claims.renew(queue, held.id, ttl=600, grace=60, now=START)

    await sweep_all(storage, now=after(599.999))

    shown = await storage.claims.get(queue, held.id, now=after(599.999))
    assert shown is not None
    assert bodies(shown) == ["a"]


async def test_markers_of_swept_messages_keep_their_position(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b"], ttl=60)
    marker = (await page(storage, queue)).marker

    await sweep_all(storage, now=after(60))
    await post_one(storage, queue, "c", now=after(60))

    assert bodies(await page(storage, queue, marker=marker, now=after(60))) == ["c"]
    assert bodies(await page(storage, queue, marker=posted.ids[-1], now=after(60))) == ["c"]


async def test_idempotency_keys_are_swept_when_they_are_forgotten(
    storage: Storage, queue: QueueRef
) -> None:
    key = idempotency_key(keep_seconds=60)
    first = await post(storage, queue, bodies=["a"], key=key)

    assert await storage.sweep(now=after(59.999), limit=MORE_THAN_ENOUGH) == 0
    again = await post(storage, queue, bodies=["a"], key=key, now=after(59.999))

    assert again.ids == first.ids
    assert await storage.sweep(now=after(60), limit=MORE_THAN_ENOUGH) == 1


async def test_queues_are_not_swept(storage: Storage, queue: QueueRef) -> None:
    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)
    await post(storage, queue, bodies=["a"], ttl=60)

    await sweep_all(storage, now=after(86_400 * 365))

    record = await storage.queues.get(queue)
    assert record is not None
    assert record.metadata == {"colour": "red"}
