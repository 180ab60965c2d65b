"""A store that is closed gives no answers, and says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.clock import START
from tests.contract.steps import bodies, claim, page, post, subscribe
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import (
    ClaimStore,
    MessageStore,
    QueueStore,
    Storage,
    SubscriptionStore,
)
from zaqar_notify.storage.registry import open_storage

Call = Callable[[Storage, QueueRef, str], Awaitable[object]]

EVERY_METHOD: dict[str, Call] = {
    "ping": lambda storage, queue, message_id: storage.ping(),
    "prove": lambda storage, queue, message_id: storage.prove(),
    "sweep": lambda storage, queue, message_id: storage.sweep(now=START, limit=1),
    "queues.get": lambda storage, queue, message_id: storage.queues.get(queue),
    "queues.create": lambda storage, queue, message_id: storage.queues.create(
        queue, metadata={}, now=START
    ),
    "queues.update": lambda storage, queue, message_id: storage.queues.update(
        queue, lambda old: old
    ),
    "queues.delete": lambda storage, queue, message_id: storage.queues.delete(queue, now=START),
    "queues.list": lambda storage, queue, message_id: storage.queues.list(
        queue.project, marker=None, limit=10
    ),
    "queues.count": lambda storage, queue, message_id: storage.queues.count(queue.project),
    "queues.count_messages": lambda storage, queue, message_id: storage.queues.count_messages(
        queue.project, prefix="q"
    ),
    "queues.stats": lambda storage, queue, message_id: storage.queues.stats(queue, now=START),
    "messages.post": lambda storage, queue, message_id: post(storage, queue, bodies=["a"]),
    "messages.page": lambda storage, queue, message_id: page(storage, queue),
    "messages.get": lambda storage, queue, message_id: storage.messages.get(
        queue, [message_id], now=START
    ),
    "messages.delete": lambda storage, queue, message_id: storage.messages.delete(
        queue, message_id, claim_id=None, now=START
    ),
    "messages.delete_many": lambda storage, queue, message_id: storage.messages.delete_many(
        queue, [message_id], claim_ids=None, now=START
    ),
    "messages.pop": lambda storage, queue, message_id: storage.messages.pop(
        queue, limit=1, now=START
    ),
    "messages.cancelled": lambda storage, queue, message_id: storage.messages.cancelled(
        queue, {message_id: START}
    ),
    "messages.purge": lambda storage, queue, message_id: storage.messages.purge(queue, now=START),
    "claims.create": lambda storage, queue, message_id: claim(storage, queue),
    "claims.get": lambda storage, queue, message_id: storage.claims.get(queue, "claim", now=START),
    "claims.renew_many": lambda storage, queue, message_id: storage.claims.renew_many(
        queue, ["claim"], ttl=60, grace=60, now=START
    ),
    "claims.renew_message": lambda storage, queue, message_id: storage.claims.renew_message(
        queue, "claim", message_id, ttl=60, grace=60, now=START
    ),
    "claims.release": lambda storage, queue, message_id: storage.claims.release(
        queue, "claim", now=START
    ),
    "subscriptions.create": lambda storage, queue, message_id: subscribe(storage, queue),
    "subscriptions.get": lambda storage, queue, message_id: storage.subscriptions.get(
        queue, "subscription", now=START
    ),
    "subscriptions.list": lambda storage, queue, message_id: storage.subscriptions.list(
        queue, marker=None, limit=10, now=START
    ),
    "subscriptions.update": lambda storage, queue, message_id: storage.subscriptions.update(
        queue, "subscription", lambda old: old, now=START
    ),
    "subscriptions.delete": lambda storage, queue, message_id: storage.subscriptions.delete(
        queue, "subscription"
    ),
    "subscriptions.remove_expired": lambda storage, queue, message_id: (
        storage.subscriptions.remove_expired(now=START, limit=1)
    ),
    "subscriptions.delete_all": lambda storage, queue, message_id: storage.subscriptions.delete_all(
        queue
    ),
}


@pytest.mark.parametrize("call", EVERY_METHOD.values(), ids=EVERY_METHOD.keys())
@pytest.mark.parametrize("is_known", [True, False], ids=["known queue", "unknown queue"])
async def test_a_closed_store_is_unavailable(
    store_uri: str, queue: QueueRef, other_queue: QueueRef, call: Call, is_known: bool
) -> None:
    storage = await open_storage(store_uri)
    posted = await post(storage, queue, bodies=["a"])
    await page(storage, queue)
    await storage.close()

    with pytest.raises(StorageUnavailable):
        await call(storage, queue if is_known else other_queue, posted.ids[0])


def test_every_method_is_asked() -> None:
    stores = {
        "queues": QueueStore,
        "messages": MessageStore,
        "claims": ClaimStore,
        "subscriptions": SubscriptionStore,
    }
    methods = {
        f"{name}.{method}" for name, store in stores.items() for method in store.__abstractmethods__
    }

    assert methods | {"ping", "prove", "sweep"} == EVERY_METHOD.keys() | {"messages.watch"}


async def test_closing_twice_and_stopping_after_it_are_no_errors(store_uri: str) -> None:
    storage = await open_storage(store_uri)

    await storage.close()
    await storage.close()
    storage.stop_waiting()


async def test_an_open_store_answers_a_ping(storage: Storage) -> None:
    await storage.ping()


async def test_a_proof_is_no_message_and_no_queue(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])

    await storage.prove()

    assert bodies(await page(storage, queue)) == ["a"]
    assert await storage.sweep(now=START, limit=1) == 0


async def test_a_closed_store_can_be_opened_again_at_once(store_uri: str, queue: QueueRef) -> None:
    for _ in range(3):
        storage = await open_storage(store_uri)
        await post(storage, queue, bodies=["a"])
        await storage.close()
