"""Subscriptions in the MongoDB database. Options are kept as JSON text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from zaqar_notify.errors import SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import (
    DELETED,
    SubscriptionPlace,
    Subscriptions,
    unless_over,
)
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import queue_key
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import (
    BY_EXPIRY,
    BY_ID,
    BY_KEY,
    BY_QUEUE_EXPIRY,
    BY_SUBSCRIBER,
)
from zaqar_notify.storage.mongodb.subscription_documents import (
    from_subscription,
    subscription_key,
    to_gone,
    to_subscription,
)
from zaqar_notify.storage.sealed_subscriptions import names_of, refuse_without

OUR_SUBSCRIPTIONS = {
    **{field: {"$type": "string"} for field in ("_id", "queue", "subscriber")},
    "secret_generation": {"$type": "number"},
}
"""The form of our documents: the sweep passes over documents that others may have put beside them."""


class MongoSubscriptions(Subscriptions):
    def __init__(self, collections: Collections, keys: Keyring) -> None:
        self._subscriptions = collections.subscriptions
        self._keys = keys

    async def create(
        self,
        subscription: Subscription,
        *,
        renew: Callable[[Subscription], Subscription],
        now: datetime,
    ) -> Subscription:
        while True:
            stored = await self._by_subscriber(subscription, now)
            if stored is None:
                if await self._insert(subscription):
                    return subscription
            else:
                renewed = renew(to_subscription(subscription.queue, stored, self._keys))
                if await self._replace(stored, renewed):
                    return renewed

    async def get(
        self, ref: QueueRef, subscription_id: str, *, now: datetime
    ) -> Subscription | None:
        stored = await self._find(ref, subscription_id, now)
        return None if stored is None else to_subscription(ref, stored, self._keys)

    async def _find(self, ref: QueueRef, subscription_id: str, now: datetime) -> Document | None:
        with storage_errors():
            return await self._subscriptions.find_one(
                {
                    "_id": subscription_key(ref, subscription_id),
                    "queue": queue_key(ref),
                    "expires_at": {"$gt": now},
                },
                hint=BY_ID,
            )

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
        return [to_subscription(ref, stored, self._keys) for stored in found]

    async def of_subscriber(
        self, ref: QueueRef, subscriber: str, *, now: datetime
    ) -> Subscription | None:
        stored = await self._named(ref, subscriber)
        if stored is None or stored["expires_at"] <= now:
            return None
        return to_subscription(ref, stored, self._keys)

    async def count(self, project: str, queue: str | None = None, *, now: datetime) -> int:
        of_queues: object = {"$gt": f"{project}\0", "$lt": f"{project}\x01"}
        if queue is not None:
            of_queues = queue_key(QueueRef(project, queue))
        with storage_errors():
            return await self._subscriptions.count_documents(
                {"queue": of_queues, "expires_at": {"$gt": now}}, hint=BY_QUEUE_EXPIRY
            )

    async def ids(
        self, project: str, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[SubscriptionPlace]:
        begin = (project,) if after is None else (project, *after)
        # The queues, too: by them a router finds the shards.
        queues = {"$gte": "\0".join(begin[:2]), "$lt": f"{project}\x01"}
        wanted = {"_id": {"$gt": "\0".join(begin), "$lt": f"{project}\x01"}, "queue": queues}
        with storage_errors():
            found = await self._subscriptions.find(
                wanted,
                {"_id": 1},
                sort=[("_id", 1)],
                limit=limit,
                batch_size=limit,
                hint=BY_ID,
            ).to_list()
        return [SubscriptionPlace(*stored["_id"].split("\0")[1:]) for stored in found]

    async def update(
        self,
        ref: QueueRef,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        now: datetime,
    ) -> Subscription:
        while (stored := await self._find(ref, subscription_id, now)) is not None:
            present = to_subscription(ref, stored, self._keys)
            changed = change(present)
            is_other = changed.subscriber != present.subscriber
            if is_other and await self._by_subscriber(changed, now) is not None:
                raise SubscriptionExists(ref.name, changed.subscriber)
            if await self._replace(stored, changed):
                return changed
        raise SubscriptionDoesNotExist(ref.name, subscription_id)

    async def longest(self, ref: QueueRef) -> datetime | None:
        with storage_errors():
            longest = await self._subscriptions.find_one(
                {"queue": queue_key(ref), "expires_at": {"$gt": DELETED}},
                {"expires_at": 1},
                sort=[("expires_at", -1)],
                hint=BY_QUEUE_EXPIRY,
            )
        return None if longest is None else longest["expires_at"]

    async def end(self, ref: QueueRef, subscription_id: str | None = None) -> None:
        which = {"queue": queue_key(ref)}
        if subscription_id is not None:
            which["_id"] = subscription_key(ref, subscription_id)
        deletion = {"$set": {"expires_at": DELETED}}
        with storage_errors():
            await rerun(lambda: self._subscriptions.update_many(which, deletion))

    async def over(
        self, *, now: datetime, limit: int, ref: QueueRef | None = None
    ) -> Sequence[Subscription]:
        which: Document = {"expires_at": {"$lte": now}, **OUR_SUBSCRIPTIONS}
        if ref is not None:
            which["queue"] = queue_key(ref)
        with storage_errors():
            found = await self._subscriptions.find(
                which,
                sort=[("expires_at", 1)],
                limit=limit,
                batch_size=limit,
                hint=BY_EXPIRY if ref is None else BY_QUEUE_EXPIRY,
            ).to_list()
        return [to_gone(stored, self._keys) for stored in found]

    async def remove(self, gone: Sequence[Subscription]) -> None:
        if not gone:
            return
        wanted = {
            "queue": {"$in": list({queue_key(each.queue) for each in gone})},
            "_id": {"$in": [subscription_key(each.queue, each.id) for each in gone]},
            # One that was renewed meanwhile lives longer.
            "expires_at": {"$lte": max(each.expires_at for each in gone)},
        }
        with storage_errors():
            await rerun(lambda: self._subscriptions.delete_many(wanted, hint=BY_ID))

    async def _by_subscriber(self, wanted: Subscription, now: datetime) -> Document | None:
        """The live subscription of the wanted one's subscriber; see `unless_over`.

        Raises:
            SubscriptionLocked: It may be one that can't be decrypted.
        """
        stored = await self._named(wanted.queue, wanted.subscriber)
        if stored is None:
            refuse_without(await self._missing_key(wanted.queue, now))
        else:
            unless_over(to_subscription(wanted.queue, stored, self._keys), now)
        return stored

    async def _missing_key(self, ref: QueueRef, now: datetime) -> str | None:
        """A key that is not here, of a live subscription of the queue."""
        key = queue_key(ref)
        with storage_errors():
            stored = await self._subscriptions.find_one(
                {
                    "key_id": {"$exists": True, "$gt": "", "$nin": self._keys.ids},
                    "_id": {"$gt": f"{key}\0", "$lt": f"{key}\x01"},
                    "queue": key,
                    "expires_at": {"$gt": now},
                },
                {"key_id": 1},
                hint=BY_KEY,
            )
        return None if stored is None else stored["key_id"]

    async def _named(self, ref: QueueRef, subscriber: str) -> Document | None:
        """The subscription of a subscriber, live or not."""
        names = names_of(ref, subscriber, self._keys)
        with storage_errors():
            return await self._subscriptions.find_one(
                {"queue": queue_key(ref), "subscriber": {"$in": names}}, hint=BY_SUBSCRIBER
            )

    async def _insert(self, subscription: Subscription) -> bool:
        """Store it; False: the subscriber has one, or the id is taken."""
        with storage_errors():
            try:
                await self._subscriptions.insert_one(from_subscription(subscription, self._keys))
            except DuplicateKeyError:
                return False
        return True

    async def _replace(self, present: Document, changed: Subscription) -> bool:
        """Replace it; False: another change came between."""
        with storage_errors():
            try:
                result = await self._subscriptions.replace_one(
                    present, from_subscription(changed, self._keys)
                )
            except DuplicateKeyError:
                return False
        return bool(result.matched_count)
