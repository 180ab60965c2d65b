"""A store that is closed gives no answers, and says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.clock import START
from tests.contract.steps import OUTBOX, bodies, claim, page, post, subscribe, subscription
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef, Token
from zaqar_notify.storage.base import Claims, Heads, Messages
from zaqar_notify.storage.catalogue import Catalogue, Entry
from zaqar_notify.storage.control import QueueRecords, Subscriptions
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Pools
from zaqar_notify.storage.quotas import QuotaRecords
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.shares import Shares
from zaqar_notify.storage.suppressions import Suppression, Suppressions
from zaqar_notify.storage.tokens import Tokens

Call = Callable[[Storage, QueueRef, str], Awaitable[object]]

EVERY_METHOD: dict[str, Call] = {
    "ping": lambda storage, queue, message_id: storage.ping(),
    "prove": lambda storage, queue, message_id: storage.prove(),
    "sweep": lambda storage, queue, message_id: storage.sweep(now=START, limit=1),
    "heads.get": lambda storage, queue, message_id: storage.heads.get(queue),
    "heads.put": lambda storage, queue, message_id: storage.heads.put(
        queue, {}, revision=9, subscribed_until=None
    ),
    "heads.revision": lambda storage, queue, message_id: storage.heads.revision(queue),
    "heads.drop": lambda storage, queue, message_id: storage.heads.drop(
        queue, revision=9, now=START
    ),
    "heads.drop_internal": lambda storage, queue, message_id: storage.heads.drop_internal([OUTBOX]),
    "heads.internal": lambda storage, queue, message_id: storage.heads.internal(after="", limit=1),
    "heads.of_clients": lambda storage, queue, message_id: storage.heads.of_clients(
        after=None, limit=1
    ),
    "heads.count_internal": lambda storage, queue, message_id: storage.heads.count_internal(
        prefix="outbox."
    ),
    "heads.raise_subscribed": lambda storage, queue, message_id: storage.heads.raise_subscribed(
        queue, START
    ),
    "heads.lower_subscribed": lambda storage, queue, message_id: storage.heads.lower_subscribed(
        queue, None, turn=0
    ),
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
    "messages.stored_bytes": lambda storage, queue, message_id: storage.messages.stored_bytes(
        queue.project, now=START
    ),
    "messages.internal_bytes": lambda storage, queue, message_id: storage.messages.internal_bytes(
        ["held.x"], now=START
    ),
    "messages.pop": lambda storage, queue, message_id: storage.messages.pop(
        queue, limit=1, now=START
    ),
    "messages.cancelled": lambda storage, queue, message_id: storage.messages.cancelled(
        queue, {message_id: START}
    ),
    "messages.purge": lambda storage, queue, message_id: storage.messages.purge(queue, now=START),
    "messages.stats": lambda storage, queue, message_id: storage.messages.stats(queue, now=START),
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
    "control.records.get": lambda storage, queue, message_id: storage.control.records.get(queue),
    "control.records.create": lambda storage, queue, message_id: storage.control.records.create(
        queue, metadata={}, now=START
    ),
    "control.records.update": lambda storage, queue, message_id: storage.control.records.update(
        queue, lambda old: old
    ),
    "control.records.applied": lambda storage, queue, message_id: storage.control.records.applied(
        queue, revision=1
    ),
    "control.records.unapplied": lambda storage, queue, message_id: (
        storage.control.records.unapplied(limit=1)
    ),
    "control.records.raise_revision": lambda storage, queue, message_id: (
        storage.control.records.raise_revision(queue, above=1)
    ),
    "control.records.remove": lambda storage, queue, message_id: storage.control.records.remove(
        queue, revision=1
    ),
    "control.records.list": lambda storage, queue, message_id: storage.control.records.list(
        queue.project, marker=None, limit=10
    ),
    "control.records.count": lambda storage, queue, message_id: storage.control.records.count(
        queue.project
    ),
    "control.records.count_all": lambda storage, queue, message_id: (
        storage.control.records.count_all(queue.project)
    ),
    "control.subscriptions.create": lambda storage, queue, message_id: subscribe(storage, queue),
    "control.subscriptions.get": lambda storage, queue, message_id: (
        storage.control.subscriptions.get(queue, "subscription", now=START)
    ),
    "control.subscriptions.list": lambda storage, queue, message_id: (
        storage.control.subscriptions.list(queue, marker=None, limit=10, now=START)
    ),
    "control.subscriptions.update": lambda storage, queue, message_id: (
        storage.control.subscriptions.update(queue, "subscription", lambda old: old, now=START)
    ),
    "control.subscriptions.longest": lambda storage, queue, message_id: (
        storage.control.subscriptions.longest(queue)
    ),
    "control.subscriptions.of_subscriber": lambda storage, queue, message_id: (
        storage.control.subscriptions.of_subscriber(queue, "http://a", now=START)
    ),
    "control.subscriptions.count": lambda storage, queue, message_id: (
        storage.control.subscriptions.count(queue.project, now=START)
    ),
    "control.subscriptions.ids": lambda storage, queue, message_id: (
        storage.control.subscriptions.ids(queue.project, after=None, limit=1)
    ),
    "control.subscriptions.end": lambda storage, queue, message_id: (
        storage.control.subscriptions.end(queue, "subscription")
    ),
    "control.subscriptions.over": lambda storage, queue, message_id: (
        storage.control.subscriptions.over(now=START, limit=1)
    ),
    "control.subscriptions.remove": lambda storage, queue, message_id: (
        storage.control.subscriptions.remove([subscription(queue)])
    ),
    "control.tokens.create": lambda storage, queue, message_id: storage.control.tokens.create(
        Token("id", b"digest", queue.project, "member", None, "", START)
    ),
    "control.tokens.find": lambda storage, queue, message_id: storage.control.tokens.find(b"d"),
    "control.tokens.get": lambda storage, queue, message_id: storage.control.tokens.get("id"),
    "control.tokens.list": lambda storage, queue, message_id: storage.control.tokens.list(
        queue.project, marker=None, limit=10
    ),
    "control.tokens.count": lambda storage, queue, message_id: storage.control.tokens.count(
        queue.project
    ),
    "control.tokens.remove": lambda storage, queue, message_id: storage.control.tokens.remove("id"),
    "control.tokens.remove_expired": lambda storage, queue, message_id: (
        storage.control.tokens.remove_expired(now=START)
    ),
    "control.quotas.get": lambda storage, queue, message_id: storage.control.quotas.get(
        queue.project
    ),
    "control.quotas.change": lambda storage, queue, message_id: storage.control.quotas.change(
        queue.project, {"queues": 1}
    ),
    "control.quotas.revision": lambda storage, queue, message_id: storage.control.quotas.revision(),
    "control.quotas.all": lambda storage, queue, message_id: storage.control.quotas.all(),
    "control.shares.generation": lambda storage, queue, message_id: (
        storage.control.shares.generation(queue)
    ),
    "control.shares.revoke": lambda storage, queue, message_id: storage.control.shares.revoke(
        queue, now=START
    ),
    "control.suppressions.add": lambda storage, queue, message_id: storage.control.suppressions.add(
        queue.project, Suppression("id", "mailto:@example.org", queue.name, "s1", START)
    ),
    "control.suppressions.get": lambda storage, queue, message_id: storage.control.suppressions.get(
        queue.project, "id"
    ),
    "control.suppressions.list": lambda storage, queue, message_id: (
        storage.control.suppressions.list(queue.project, marker=None, limit=10)
    ),
    "control.suppressions.remove": lambda storage, queue, message_id: (
        storage.control.suppressions.remove(queue.project, "id")
    ),
    "control.pools.load": lambda storage, queue, message_id: storage.control.pools.load(),
    "control.pools.replace": lambda storage, queue, message_id: storage.control.pools.replace(
        b"{}", revision=0
    ),
    "control.catalogue.get": lambda storage, queue, message_id: storage.control.catalogue.get(
        queue
    ),
    "control.catalogue.place": lambda storage, queue, message_id: storage.control.catalogue.place(
        queue, "pool", now=START
    ),
    "control.catalogue.move": lambda storage, queue, message_id: storage.control.catalogue.move(
        queue, "pool", "other"
    ),
    "control.catalogue.let": lambda storage, queue, message_id: storage.control.catalogue.let(
        queue, "pool", "attempt"
    ),
    "control.catalogue.doubt": lambda storage, queue, message_id: storage.control.catalogue.doubt(
        queue, now=START
    ),
    "control.catalogue.doubted": lambda storage, queue, message_id: (
        storage.control.catalogue.doubted(before=START, limit=1)
    ),
    "control.catalogue.believe": lambda storage, queue, message_id: (
        storage.control.catalogue.believe(Entry(queue, "pool", START))
    ),
    "control.catalogue.remove": lambda storage, queue, message_id: storage.control.catalogue.remove(
        Entry(queue, "pool", START)
    ),
    "control.catalogue.of_pool": lambda storage, queue, message_id: (
        storage.control.catalogue.of_pool("pool", after=None, limit=1)
    ),
    "control.tokens.note_use": lambda storage, queue, message_id: storage.control.tokens.note_use(
        "id", now=START, last=None
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
    contracts = {
        "heads": Heads,
        "messages": Messages,
        "claims": Claims,
        "control.records": QueueRecords,
        "control.subscriptions": Subscriptions,
        "control.tokens": Tokens,
        "control.shares": Shares,
        "control.suppressions": Suppressions,
        "control.quotas": QuotaRecords,
        "control.pools": Pools,
        "control.catalogue": Catalogue,
    }
    methods = {
        f"{name}.{method}"
        for name, contract in contracts.items()
        for method in contract.__abstractmethods__
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
