"""The encrypted messages and subscriptions of the database, by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pymongo import UpdateOne

from zaqar_notify.errors import CannotDecrypt, SubscriptionLocked
from zaqar_notify.rules.encryption import Keyring, Kind
from zaqar_notify.storage.mongodb.connection import Collection, Collections, Document
from zaqar_notify.storage.mongodb.documents import to_ref
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID, BY_KEY
from zaqar_notify.storage.mongodb.subscription_documents import stored_subscriber
from zaqar_notify.storage.rekeying import AT_ONCE_BYTES, Encrypted, Step
from zaqar_notify.storage.sealed_subscriptions import resealed


class EncryptedMessages(Encrypted):
    def __init__(self, collections: Collections, keys: Keyring) -> None:
        self._messages = collections.messages
        self._keys = keys

    async def key_ids(self) -> Sequence[str]:
        return await next_keys(self._messages)

    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        with storage_errors():
            found = await some_under(self._messages, key_id, "body", after=after, limit=limit)
            updates = []
            for stored in found:
                try:
                    resealed = self._keys.resealed(Kind.MESSAGE, stored["body"])
                except CannotDecrypt:
                    continue
                change = {"$set": {"body": resealed, "key_id": self._keys.ids[0]}}
                same = {"_id": stored["_id"], "queue": stored["queue"], "key_id": key_id}
                updates.append(UpdateOne(same, change, hint=BY_ID))
            if updates:
                await rerun(lambda: self._messages.bulk_write(updates, ordered=False))
        last = found[-1]["_id"] if found else None
        return Step(len(updates), len(found) - len(updates), last)


class EncryptedSubscriptions(Encrypted):
    def __init__(self, collections: Collections, keys: Keyring) -> None:
        self._subscriptions = collections.subscriptions
        self._keys = keys

    async def key_ids(self) -> Sequence[str]:
        return await next_keys(self._subscriptions)

    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        with storage_errors():
            found = await some_under(
                self._subscriptions,
                key_id,
                "options",
                "subscriber",
                "key_id",
                after=after,
                limit=limit,
            )
            updates = []
            for stored in found:
                try:
                    was = stored_subscriber(stored)
                    anew = resealed(to_ref(stored["queue"]), was, self._keys)
                except SubscriptionLocked:
                    continue
                # One that was changed meanwhile is under the first key by that.
                change = {"$set": msgspec.structs.asdict(anew)}
                updates.append(UpdateOne(stored, change, hint=BY_ID))
            if updates:
                await rerun(lambda: self._subscriptions.bulk_write(updates, ordered=False))
        last = found[-1]["_id"] if found else None
        return Step(len(updates), len(found) - len(updates), last)


async def next_keys(collection: Collection) -> list[str]:
    """The ids of the keys under which some documents of the collection are."""
    found: list[str] = []
    with storage_errors():
        while True:
            behind = {"key_id": {"$exists": True, "$gt": found[-1] if found else ""}}
            stored = await collection.find_one(
                behind, {"_id": 0, "key_id": 1}, sort=[("key_id", 1)], hint=BY_KEY
            )
            if stored is None:
                return found
            found.append(stored["key_id"])


async def some_under(
    collection: Collection, key_id: str, field: str, *others: str, after: Any | None, limit: int
) -> list[Document]:
    """As many documents under a key as are rewritten in one write, with these fields; `field` has the
    envelope."""
    wanted: Document = {"key_id": {"$exists": True, "$eq": key_id}}
    if after is not None:
        wanted["_id"] = {"$gt": after}
    found = collection.find(
        wanted,
        dict.fromkeys(("queue", field, *others), 1),
        sort=[("_id", 1)],
        limit=limit,
        hint=BY_KEY,
    )
    some: list[Document] = []
    size = 0
    async with found:
        async for stored in found:
            some.append(stored)
            size += len(stored[field])
            if size >= AT_ONCE_BYTES:
                break
    return some
