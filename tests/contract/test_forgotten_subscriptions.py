"""A subscription that is over takes its own queues with it, whichever way it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from tests.contract.steps import after, everything, post, subscribe
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.storage.internal import parked_ref, queues_of_subscription
from zaqar_notify.storage.planes import Storage

HOOK = "http://example.com/hook"
OVER = after(60)
"""When a subscription of these tests, of 60 seconds, is over."""


async def owe(storage: Storage, subscription: Subscription) -> None:
    """Have something on each queue that is the subscription's own."""
    for own in queues_of_subscription(subscription.id):
        await post(storage, own, bodies=["owed"], ttl=86_400)


async def is_owed(storage: Storage, subscription: Subscription) -> set[bool]:
    """Whether anything is left of its own queues: of each, of none, or both."""
    return {
        await storage.heads.get(own) is not None or await everything(storage, own, now=OVER) != []
        for own in queues_of_subscription(subscription.id)
    }


async def deleted(storage: Storage, subscription: Subscription) -> None:
    await storage.subscriptions.delete(subscription.queue, subscription.id)


async def purged(storage: Storage, subscription: Subscription) -> None:
    await storage.subscriptions.delete_all(subscription.queue)


async def expired(storage: Storage, subscription: Subscription) -> None:
    await storage.subscriptions.remove_expired(now=OVER, limit=10)


async def replaced(storage: Storage, subscription: Subscription) -> None:
    await subscribe(storage, subscription.queue, subscription.subscriber, now=OVER)


async def taken_over(storage: Storage, subscription: Subscription) -> None:
    other = await subscribe(storage, subscription.queue, "http://example.com/other", now=OVER)
    await storage.subscriptions.update(
        subscription.queue,
        other.id,
        lambda present: msgspec.structs.replace(present, subscriber=subscription.subscriber),
        now=OVER,
    )


@pytest.mark.parametrize("ends", [deleted, purged, expired, replaced, taken_over])
async def test_owed_deliveries_are_removed_with_their_subscription(
    storage: Storage,
    queue: QueueRef,
    other_queue: QueueRef,
    ends: Callable[[Storage, Subscription], Awaitable[None]],
) -> None:
    subscription = await subscribe(storage, queue, HOOK, ttl=60)
    bystander = await subscribe(storage, other_queue, HOOK, ttl=61)
    await owe(storage, subscription)
    await owe(storage, bystander)

    await ends(storage, subscription)

    assert await is_owed(storage, subscription) == {False}
    assert await is_owed(storage, bystander) == {True}
    assert await storage.subscriptions.remove_expired(now=OVER, limit=10) == []


@pytest.mark.parametrize("ends", [deleted, purged, expired, replaced, taken_over])
async def test_the_number_of_waiting_deliveries_that_are_removed_is_told(
    storage: Storage,
    queue: QueueRef,
    ends: Callable[[Storage, Subscription], Awaitable[None]],
) -> None:
    told: list[tuple[QueueRef, str, int]] = []
    storage.when_dropped(lambda *facts: told.append(facts))
    subscription = await subscribe(storage, queue, HOOK, ttl=60)
    await subscribe(storage, queue, "http://example.com/nothing-waits", ttl=60)
    await owe(storage, subscription)
    await post(storage, parked_ref(subscription.id), bodies=["another"], ttl=86_400)

    await ends(storage, subscription)

    assert told == [(queue, subscription.id, 4)]


async def test_an_id_of_another_queue_removes_nothing(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    subscription = await subscribe(storage, queue, HOOK)
    await owe(storage, subscription)

    await storage.subscriptions.delete(other_queue, subscription.id)

    assert await is_owed(storage, subscription) == {True}


async def test_expired_subscriptions_are_removed_a_few_at_a_time_and_returned(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    gone = [
        await subscribe(storage, ref, f"http://{number}", ttl=60)
        for ref in (queue, other_queue)
        for number in range(3)
    ]
    kept = await subscribe(storage, queue, "http://kept", ttl=61)

    assert await storage.subscriptions.remove_expired(now=after(59.999), limit=10) == []
    removed = [await storage.subscriptions.remove_expired(now=OVER, limit=4) for _ in range(3)]

    assert [len(batch) for batch in removed] == [4, 2, 0]
    assert sorted(each.id for batch in removed for each in batch) == [each.id for each in gone]
    assert removed[0][0] in gone
    assert await storage.subscriptions.list(queue, marker=None, limit=10, now=OVER) == [kept]
    assert (await post(storage, queue, bodies=["a"], now=OVER)).owes_deliveries is True


async def test_one_that_expired_is_reported_once_and_one_that_was_deleted_never(
    storage: Storage, queue: QueueRef
) -> None:
    subscription = await subscribe(storage, queue, HOOK, ttl=60)
    await storage.subscriptions.delete(queue, subscription.id)

    assert await storage.subscriptions.remove_expired(now=OVER, limit=10) == []
