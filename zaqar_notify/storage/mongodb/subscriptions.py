"""Subscriptions, by project and queue name.

A post must know in its reservation whether the queue has a subscription. So the queue's document has
`subscribed_until`, the instant at which the last subscription ends.

- It is raised before a subscription is stored, so that a subscription is notified even if its process
  ends then, and once more afterwards, in case another process lowered it meanwhile.
- It is lowered after a subscription is removed, unless another change came between.
- Too late an instant costs one unneeded job. It is too early only while a subscription is not yet
  acknowledged.
- A subscription is acknowledged when the posts that were under way at the raise are stored: they owe it
  nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from zaqar_notify.errors import NotifyError, SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.internal import queues_of_subscription
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.storage.base import SubscriptionStore
from zaqar_notify.storage.mongodb.connection import Connection, Document
from zaqar_notify.storage.mongodb.documents import (
    EPOCH,
    from_subscription,
    new_queue_id,
    queue_key,
    subscription_key,
    to_ref,
    to_subscription,
)
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_EXPIRY, BY_ID, BY_QUEUE_EXPIRY, BY_SUBSCRIBER
from zaqar_notify.storage.mongodb.queues import MongoQueues
from zaqar_notify.storage.mongodb.records import Records

DELETED = EPOCH
"""Expiry of a subscription that was deleted, and is not removed yet."""
REMOVED_AT_ONCE = 500
OURS = {
    **{field: {"$type": "string"} for field in ("_id", "queue", "subscriber")},
    "secret_generation": {"$type": "number"},
}
"""The types of our fields: the sweep passes over documents of other applications."""


class MongoSubscriptions(SubscriptionStore):
    def __init__(self, connection: Connection, records: Records, queues: MongoQueues) -> None:
        self._records = records
        self._queues = connection.queues
        self._subscriptions = connection.subscriptions
        self._queue_store = queues

    async def create(
        self,
        subscription: Subscription,
        *,
        renew: Callable[[Subscription], Subscription],
        now: datetime,
    ) -> Subscription:
        ref = subscription.queue
        while True:
            existing = await self._by_subscriber(ref, subscription.subscriber, now)
            if existing is None:
                await self._queue_store.create(ref, metadata={}, now=now)
                await self._raise(ref, subscription.expires_at)
                if await self._insert(subscription):
                    await self._raise(ref, subscription.expires_at)
                    return subscription
                continue
            try:
                renewed = renew(existing)
            except NotifyError:
                # The process that stored it may have ended before it raised the instant.
                await self._raise(ref, existing.expires_at)
                raise
            if await self._replace(existing, renewed):
                await self._queue_store.create(ref, metadata={}, now=now)
                return renewed

    async def get(
        self, ref: QueueRef, subscription_id: str, *, now: datetime
    ) -> Subscription | None:
        with storage_errors():
            stored = await self._subscriptions.find_one(
                {
                    "_id": subscription_key(ref, subscription_id),
                    "queue": queue_key(ref),
                    "expires_at": {"$gt": now},
                },
                hint=BY_ID,
            )
        return None if stored is None else to_subscription(ref, stored)

    async def list(
        self, ref: QueueRef, *, marker: str | None, limit: int, now: datetime
    ) -> list[Subscription]:
        key = queue_key(ref)
        with storage_errors():
            found = await self._subscriptions.find(
                {
                    "_id": {"$gt": f"{key}\0{marker or ''}", "$lt": f"{key}\x01"},
                    "queue": key,
                    "expires_at": {"$gt": now},
                },
                sort=[("_id", 1)],
                limit=limit,
                batch_size=limit,
                hint=BY_ID,
            ).to_list()
        return [to_subscription(ref, stored) for stored in found]

    async def update(
        self,
        ref: QueueRef,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        now: datetime,
    ) -> Subscription:
        while True:
            present = await self.get(ref, subscription_id, now=now)
            if present is None:
                raise SubscriptionDoesNotExist(ref.name, subscription_id)
            changed = change(present)
            if changed.subscriber != present.subscriber:
                other = await self._by_subscriber(ref, changed.subscriber, now)
                if other is not None:
                    raise SubscriptionExists(ref.name, changed.subscriber)
            if await self._replace(present, changed):
                return changed

    async def delete(self, ref: QueueRef, subscription_id: str) -> None:
        await self._delete(
            ref, {"_id": subscription_key(ref, subscription_id), "queue": queue_key(ref)}
        )

    async def delete_all(self, ref: QueueRef) -> None:
        await self._delete(ref, {"queue": queue_key(ref)})

    async def remove_expired(self, *, now: datetime, limit: int) -> Sequence[Subscription]:
        with storage_errors():
            expired = {"expires_at": {"$lte": now}, **OURS}
            removed = await self._remove(expired, BY_EXPIRY, limit=limit)
        return [subscription for subscription in removed if subscription.expires_at > DELETED]

    async def _delete(self, ref: QueueRef, which: Document) -> None:
        with storage_errors():
            deletion = {"$set": {"expires_at": DELETED}}
            await rerun(lambda: self._subscriptions.update_many(which, deletion))
            await self._lower(ref)
            deleted = {**which, "expires_at": DELETED}
            while await self._remove(deleted, BY_QUEUE_EXPIRY, limit=REMOVED_AT_ONCE):
                pass

    async def _remove(self, which: Document, hint: str, *, limit: int) -> Sequence[Subscription]:
        """The one place where subscriptions that are over go, with the queues that are their own."""
        found = await self._subscriptions.find(
            which, sort=[("expires_at", 1)], limit=limit, batch_size=limit, hint=hint
        ).to_list()
        gone = [to_subscription(to_ref(stored["queue"]), stored) for stored in found]
        if gone:
            await self._queue_store.delete_many(
                [own for each in gone for own in queues_of_subscription(each.id)]
            )
            wanted = {
                "queue": {"$in": list({stored["queue"] for stored in found})},
                "_id": {"$in": [stored["_id"] for stored in found]},
                "expires_at": {"$lte": max(stored["expires_at"] for stored in found)},
            }
            await rerun(lambda: self._subscriptions.delete_many(wanted, hint=BY_ID))
        return gone

    async def _by_subscriber(
        self, ref: QueueRef, subscriber: str, now: datetime
    ) -> Subscription | None:
        """The live subscription of this subscriber; an expired one is removed."""
        with storage_errors():
            stored = await self._subscriptions.find_one(
                {"queue": queue_key(ref), "subscriber": subscriber}, hint=BY_SUBSCRIBER
            )
            if stored is not None and stored["expires_at"] <= now:
                expired = {key: stored[key] for key in ("queue", "_id", "expires_at")}
                await self._remove(expired, BY_ID, limit=1)
                stored = None
        return None if stored is None else to_subscription(ref, stored)

    async def _insert(self, subscription: Subscription) -> bool:
        """Store it; False: the subscriber has one, or the id is taken."""
        with storage_errors():
            try:
                await self._subscriptions.insert_one(from_subscription(subscription))
            except DuplicateKeyError:
                return False
        return True

    async def _replace(self, present: Subscription, changed: Subscription) -> bool:
        """Replace it and tell the queue; False: another change came between."""
        ref = present.queue
        before = from_subscription(present)
        if changed.expires_at > present.expires_at:
            await self._raise(ref, changed.expires_at)
        with storage_errors():
            try:
                result = await self._subscriptions.replace_one(before, from_subscription(changed))
            except DuplicateKeyError:
                return False
            if not result.matched_count:
                return False
        if changed.expires_at != present.expires_at:
            await self._raise(ref, changed.expires_at)
        if changed.expires_at < present.expires_at:
            with storage_errors():
                await self._lower(ref)
        return True

    async def _raise(self, ref: QueueRef, until: datetime) -> None:
        """Let the queue have a subscription until then, at least."""
        with storage_errors():
            await self._queues.update_one(
                {"_id": queue_key(ref)},
                {
                    "$max": {"subscribed_until": until},
                    "$inc": {"subscribers_turn": 1},
                    "$setOnInsert": {"queue": new_queue_id(), "metadata": None},
                },
                upsert=True,
            )
        await self._records.until_posted(ref)

    async def _lower(self, ref: QueueRef) -> None:
        """Let the queue have a subscription for as long as its longest lives, not longer."""
        while True:
            stored = await self._queues.find_one({"_id": queue_key(ref)}, {"subscribers_turn": 1})
            if stored is None:
                return
            longest: Document | None = await self._subscriptions.find_one(
                {"queue": queue_key(ref)},
                {"expires_at": 1},
                sort=[("expires_at", -1)],
                hint=BY_QUEUE_EXPIRY,
            )
            until = None if longest is None else longest["expires_at"]
            result = await self._queues.update_one(
                {"_id": queue_key(ref), "subscribers_turn": stored.get("subscribers_turn")},
                {"$set": {"subscribed_until": until}},
            )
            if result.matched_count:
                return
