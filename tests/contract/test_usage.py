"""The use of a project: its stored queues, subscriptions, bytes."""

from __future__ import annotations

import pytest

from tests.clock import START
from tests.contract.steps import after, hold, post, subscribe
from zaqar_notify.models import QueueRef
from zaqar_notify.storage import planes
from zaqar_notify.storage.control import SubscriptionPlace
from zaqar_notify.storage.internal import parked_ref, queues_of_subscription
from zaqar_notify.storage.planes import Storage

BODY = len('"12345678"')


async def post_some(
    storage: Storage, queue: QueueRef, count: int, *, ttl: int = 3600, delay: int = 0
) -> list[str]:
    bodies = ["12345678"] * count
    return list((await post(storage, queue, bodies=bodies, ttl=ttl, delay=delay)).ids)


async def test_bytes_are_those_of_all_bodies_of_the_project_and_of_no_other(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "bcd"])
    await post(storage, other_queue, bodies=["grüß"])
    await post(storage, QueueRef(f"{queue.project}x", "orders"), bodies=["foreign"])

    found = await storage.stored_bytes(queue.project, now=START)

    assert found == len('"a"') + len('"bcd"') + len('"gr\\u00fc\\u00df"')
    assert await storage.stored_bytes(f"{queue.project}y", now=START) == 0


async def test_claimed_and_delayed_messages_count(storage: Storage, queue: QueueRef) -> None:
    await post_some(storage, queue, 3)
    await hold(storage, queue, limit=2)
    await post_some(storage, queue, 2, delay=100)

    assert await storage.stored_bytes(queue.project, now=START) == 5 * BODY


async def test_deleted_popped_and_purged_messages_and_queues_do_not_count(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    first, second, *_ = await post_some(storage, queue, 40)
    await post_some(storage, other_queue, 2)

    await storage.messages.delete(queue, first, claim_id=None, now=START)
    await storage.messages.delete_many(queue, [second], claim_ids=None, now=START)
    await storage.messages.pop(queue, limit=20, now=START)
    assert await storage.stored_bytes(queue.project, now=START) == 20 * BODY

    await storage.messages.purge(queue, now=START)
    assert await storage.stored_bytes(queue.project, now=START) == 2 * BODY

    await storage.queues.delete(other_queue, now=START)
    assert await storage.stored_bytes(queue.project, now=START) == 0


async def test_expired_messages_free_their_bytes_at_once(storage: Storage, queue: QueueRef) -> None:
    await post_some(storage, queue, 1, ttl=100)
    await post_some(storage, queue, 1, ttl=200)

    assert await storage.stored_bytes(queue.project, now=after(99.999)) == 2 * BODY
    assert await storage.stored_bytes(queue.project, now=after(100)) == BODY


async def test_what_waits_for_subscriptions_and_what_was_given_up_counts_until_they_are_deleted(
    storage: Storage, queue: QueueRef, other_queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "SUBSCRIPTIONS_PER_COUNT", 1)
    first, second = await subscribe(storage, queue), await subscribe(storage, other_queue)
    foreign = await subscribe(storage, QueueRef(f"{queue.project}x", "orders"))
    for subscription in (first, second, foreign):
        for internal in queues_of_subscription(subscription.id):
            await post_some(storage, internal, 2)
    await hold(storage, parked_ref(first.id), limit=1)
    of_each = len(queues_of_subscription(first.id)) * 2 * BODY

    assert await storage.stored_bytes(queue.project, now=START) == 2 * of_each
    assert await storage.message_bytes(queue.project, now=START) == 0
    assert await storage.stored_bytes(queue.project, now=after(3600)) == 0

    await storage.subscriptions.delete(queue, first.id)

    assert await storage.stored_bytes(queue.project, now=START) == of_each


async def test_a_project_s_subscriptions_are_listed_over_all_queues_page_by_page(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    stored = [
        await subscribe(storage, ref, f"http://example.com/{number}")
        for ref in (queue, other_queue)
        for number in range(3)
    ]
    await subscribe(storage, QueueRef(f"{queue.project}x", "orders"))

    found, last = list[SubscriptionPlace](), None
    while page := await storage.control.subscriptions.ids(queue.project, after=last, limit=2):
        found += page
        last = page[-1]

    assert found == sorted(SubscriptionPlace(each.queue.name, each.id) for each in stored)


async def test_queues_are_counted_by_project(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={}, now=START)
    await post_some(storage, other_queue, 1)
    await storage.queues.create(QueueRef(f"{queue.project}x", "q"), metadata={}, now=START)

    assert await storage.queues.count(queue.project) == 2


async def test_subscriptions_that_live_are_counted_by_project_and_by_queue(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    subscriptions = storage.control.subscriptions
    gone = await subscribe(storage, queue, "http://example.com/1")
    await subscribe(storage, queue, "http://example.com/2", ttl=100)
    await subscribe(storage, queue, "http://example.com/3", ttl=200)
    await subscribe(storage, other_queue, "http://example.com/4")
    await subscribe(storage, QueueRef(f"{queue.project}x", "orders"))
    await storage.subscriptions.delete(queue, gone.id)

    assert await subscriptions.count(queue.project, now=after(99)) == 3
    assert await subscriptions.count(queue.project, now=after(100)) == 2
    assert await subscriptions.count(queue.project, queue.name, now=after(100)) == 1
    assert await subscriptions.count(queue.project, "none", now=START) == 0


async def test_a_subscription_is_found_by_its_subscriber_while_it_lives(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    subscriptions, subscriber = storage.control.subscriptions, "http://example.com/hook"
    stored = await subscribe(storage, queue, subscriber, ttl=100)

    assert await subscriptions.of_subscriber(queue, subscriber, now=after(99.999)) == stored
    assert await subscriptions.of_subscriber(queue, subscriber, now=after(100)) is None
    assert await subscriptions.of_subscriber(other_queue, subscriber, now=START) is None
