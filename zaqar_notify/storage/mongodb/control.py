"""The control store of one MongoDB database: queues' records, subscriptions and tokens.

Metadata and options are kept as JSON text: their keys and numbers are none of MongoDB's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from zaqar_notify.errors import QueueDoesNotExist, SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.models import JsonObject, Queue, QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import (
    DELETED,
    ControlStore,
    QueueRecord,
    QueueRecords,
    Subscriptions,
    unless_over,
)
from zaqar_notify.storage.matching import has_metadata
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    from_subscription,
    queue_key,
    subscription_key,
    to_gone,
    to_ref,
    to_subscription,
)
from zaqar_notify.storage.mongodb.encrypted import EncryptedSubscriptions
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import (
    BY_EXPIRY,
    BY_ID,
    BY_QUEUE_EXPIRY,
    BY_SUBSCRIBER,
    UNAPPLIED,
)
from zaqar_notify.storage.mongodb.quotas import MongoQuotaRecords
from zaqar_notify.storage.mongodb.shares import MongoShares
from zaqar_notify.storage.mongodb.tokens import MongoTokens
from zaqar_notify.storage.sealed_subscriptions import names_of
from zaqar_notify.storage.values import from_json, to_json

LISTED_AT_ONCE = 1000
OUR_RECORDS = {"_id": {"$type": "string"}, "metadata": {"$type": "string"}}
OUR_SUBSCRIPTIONS = {
    **{field: {"$type": "string"} for field in ("_id", "queue", "subscriber")},
    "secret_generation": {"$type": "number"},
}
"""The form of our documents: the sweep passes over documents that others may have put beside them."""


class MongoControl(ControlStore):
    """Of the database that a `MongoStore` has opened. Closing either closes the client."""

    def __init__(self, collections: Collections, keys: Keyring) -> None:
        self._collections = collections
        self.encrypted = EncryptedSubscriptions(collections, keys)
        self.records = MongoQueueRecords(collections)
        self.subscriptions = MongoSubscriptions(collections, keys)
        self.tokens = MongoTokens(collections)
        self.quotas = MongoQuotaRecords(collections)
        self.shares = MongoShares(collections)

    async def ping(self) -> None:
        with storage_errors():
            await self._collections.client.admin.command("ping")

    async def close(self) -> None:
        await self._collections.close()


class MongoQueueRecords(QueueRecords):
    def __init__(self, collections: Collections) -> None:
        self._records = collections.records

    async def get(self, ref: QueueRef) -> QueueRecord | None:
        with storage_errors():
            stored = await self._records.find_one({"_id": queue_key(ref)}, hint=BY_ID)
        return None if stored is None else _record(stored)

    async def create(
        self, ref: QueueRef, *, metadata: JsonObject, now: datetime
    ) -> QueueRecord | None:
        if await self.get(ref) is not None:
            return None
        stored = {
            "_id": queue_key(ref),
            "metadata": to_json(metadata),
            "created_at": now,
            "revision": 1,
        }
        with storage_errors():
            try:
                await self._records.insert_one(stored)
            except DuplicateKeyError:
                return None
        return _record(stored)

    async def update(
        self, ref: QueueRef, change: Callable[[JsonObject], JsonObject]
    ) -> QueueRecord:
        while (present := await self.get(ref)) is not None:
            metadata = change(present.queue.metadata)
            with storage_errors():
                stored = await self._records.find_one_and_update(
                    {"_id": queue_key(ref), "revision": present.revision},
                    {
                        "$set": {"metadata": to_json(metadata), "unapplied": True},
                        "$inc": {"revision": 1},
                    },
                    return_document=ReturnDocument.AFTER,
                    hint=BY_ID,
                )
            if stored is not None:
                return _record(stored)
        raise QueueDoesNotExist(ref.name)

    async def applied(self, ref: QueueRef, *, revision: int) -> None:
        with storage_errors():
            await self._records.update_one(
                {"_id": queue_key(ref), "revision": revision},
                {"$unset": {"unapplied": ""}},
                hint=BY_ID,
            )

    async def unapplied(self, *, limit: int) -> Sequence[QueueRecord]:
        with storage_errors():
            found = await self._records.find(
                {"unapplied": True, **OUR_RECORDS}, limit=limit, batch_size=limit, hint=UNAPPLIED
            ).to_list()
        return [_record(stored) for stored in found]

    async def raise_revision(self, ref: QueueRef, *, above: int) -> QueueRecord | None:
        with storage_errors():
            stored = await self._records.find_one_and_update(
                {"_id": queue_key(ref)},
                {"$max": {"revision": above + 1}},
                return_document=ReturnDocument.AFTER,
                hint=BY_ID,
            )
        return None if stored is None else _record(stored)

    async def remove(self, ref: QueueRef, *, revision: int) -> bool:
        with storage_errors():
            removed = await self._records.delete_one(
                {"_id": queue_key(ref), "revision": revision}, hint=BY_ID
            )
        return bool(removed.deleted_count)

    async def list(
        self,
        project: str,
        *,
        marker: str | None,
        limit: int,
        name_contains: str = "",
        metadata_equals: JsonObject | None = None,
    ) -> list[Queue]:
        queues: list[Queue] = []
        matching = self._matching(project, marker or "", limit, name_contains, metadata_equals)
        with storage_errors():
            async for queue in matching:
                queues.append(queue)
                if len(queues) == limit:
                    break
        return queues

    async def count(
        self, project: str, *, name_contains: str = "", metadata_equals: JsonObject | None = None
    ) -> int:
        with storage_errors():
            if not name_contains and not metadata_equals:
                return await self._records.count_documents(_of_project(project, ""), hint=BY_ID)
            matching = self._matching(project, "", LISTED_AT_ONCE, name_contains, metadata_equals)
            return len([queue async for queue in matching])

    async def _matching(
        self, project: str, marker: str, limit: int, name_contains: str, wanted: JsonObject | None
    ) -> AsyncIterator[Queue]:
        found = self._records.find(
            _of_project(project, marker),
            sort=[("_id", 1)],
            batch_size=min(max(limit, 2), LISTED_AT_ONCE),
            hint=BY_ID,
        )
        async with found:
            async for stored in found:
                queue = _record(stored).queue
                if name_contains not in queue.ref.name:
                    continue
                if not wanted or has_metadata(queue.metadata, wanted):
                    yield queue


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
        return [to_gone(stored) for stored in found]

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
        """The live subscription of the wanted one's subscriber; see `unless_over`."""
        stored = await self._named(wanted.queue, wanted.subscriber)
        if stored is not None:
            unless_over(to_subscription(wanted.queue, stored, self._keys), now)
        return stored

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


def _record(stored: Document) -> QueueRecord:
    ref = to_ref(stored["_id"])
    queue = Queue(ref, from_json(stored["metadata"]), stored["created_at"])
    return QueueRecord(queue, stored["revision"])


def _of_project(project: str, marker: str) -> Document:
    """The queues of a project after a name: the separator sorts before all other characters."""
    return {"_id": {"$gt": f"{project}\0{marker}", "$lt": f"{project}\x01"}}
