"""Posts park their messages for ordered subscriptions themselves, in the order in which they are acknowledged."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import msgspec

from tests.clock import START
from tests.contract.steps import everything, subscribe
from zaqar_notify.clock import SystemClock
from zaqar_notify.delivery import OwedDelivery, read_work
from zaqar_notify.delivery.posts import ClientPost, PostedMessage
from zaqar_notify.models import JsonObject, Posted, QueueRef, Subscription
from zaqar_notify.rules.pacing import ORDERED_FOR
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import parked_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

SETTINGS = Settings()
ORDERED: JsonObject = {"_ordered": True}


async def post(storage: Storage, queue: QueueRef, *bodies: int, delay: int = 0) -> Posted:
    messages = [PostedMessage(msgspec.Raw(b"%d" % body), ttl=600, delay=delay) for body in bodies]
    made = ClientPost(
        queue,
        messages,
        size=10,
        client_id="client",
        idempotency_key=None,
        request_id="",
        hops=0,
        settings=SETTINGS,
        clock=SystemClock(),
    )
    return await storage.post(queue, made, now=START)


async def parked(storage: Storage, subscription: Subscription) -> list[int]:
    works = [
        read_work(message.body)
        for message in await everything(storage, parked_ref(subscription.id))
    ]
    return [int(bytes(work.message.body)) for work in works if isinstance(work, OwedDelivery)]


async def ordered_for(storage: Storage, queue: QueueRef) -> list[str]:
    head = await storage.heads.get(queue)
    assert head is not None
    found: list[str] = head.rules.get(ORDERED_FOR, [])
    return found


async def test_a_post_parks_its_messages_for_each_ordered_subscription(
    storage: Storage, queue: QueueRef
) -> None:
    ordered = [
        await subscribe(storage, queue, f"http://{name}", options=ORDERED) for name in ("a", "b")
    ]
    other = await subscribe(storage, queue, "http://c", options={})

    await post(storage, queue, 1, 2)

    assert [await parked(storage, each) for each in ordered] == [[1, 2], [1, 2]]
    assert await parked(storage, other) == []


async def test_the_head_names_those_that_are_ordered_now(storage: Storage, queue: QueueRef) -> None:
    subscription = await subscribe(storage, queue, options={})
    assert await ordered_for(storage, queue) == []

    async def change(options: JsonObject) -> None:
        await storage.subscriptions.update(
            queue,
            subscription.id,
            lambda present: msgspec.structs.replace(present, options=options),
            now=START,
        )

    await change(ORDERED)
    assert await ordered_for(storage, queue) == [subscription.id]
    await change({})
    assert await ordered_for(storage, queue) == []
    await change(ORDERED)
    await storage.subscriptions.delete(queue, subscription.id)
    assert await ordered_for(storage, queue) == []


async def test_a_change_of_metadata_keeps_the_ordered_subscriptions(
    storage: Storage, queue: QueueRef
) -> None:
    subscription = await subscribe(storage, queue, options=ORDERED)

    await storage.queues.update(queue, lambda metadata: {**metadata, "_default_message_ttl": 60})

    assert await ordered_for(storage, queue) == [subscription.id]


async def test_subscriptions_that_become_ordered_at_the_same_time_are_all_named(
    storage: Storage, queue: QueueRef
) -> None:
    made = await asyncio.gather(
        *(subscribe(storage, queue, f"http://{number}", options=ORDERED) for number in range(8))
    )

    assert sorted(await ordered_for(storage, queue)) == sorted(each.id for each in made)


async def test_delayed_messages_are_left_to_their_job(storage: Storage, queue: QueueRef) -> None:
    subscription = await subscribe(storage, queue, options=ORDERED)

    await post(storage, queue, 1, delay=30)

    assert await parked(storage, subscription) == []


async def test_messages_are_parked_in_the_order_of_posts_whichever_process_takes_these(
    store_uri: str, queue: QueueRef
) -> None:
    """On a store of one process it is the same one each time."""
    processes = 1 if store_uri.startswith("sqlite") else 3
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(processes):
            storage = await open_storage(store_uri)
            stack.push_async_callback(storage.close)
            stores.append(storage)
        subscription = await subscribe(stores[0], queue, options=ORDERED)

        for number in range(30):
            await post(stores[-number % processes], queue, number)

        assert await parked(stores[0], subscription) == [*range(30)]


async def test_messages_of_posts_at_the_same_time_are_parked_once_each(
    storage: Storage, queue: QueueRef
) -> None:
    subscription = await subscribe(storage, queue, options=ORDERED)

    await asyncio.gather(*(post(storage, queue, number) for number in range(10)))

    assert sorted(await parked(storage, subscription)) == [*range(10)]
