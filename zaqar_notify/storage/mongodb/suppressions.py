"""Suppressed addresses in the MongoDB database. The collection is small, and not sharded."""

from __future__ import annotations

from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.suppressions import Suppression, Suppressions


class MongoSuppressions(Suppressions):
    def __init__(self, collections: Collections) -> None:
        self._suppressions = collections.suppressions
        # A fail-over must not undo one that was seen.
        self._durable = collections.suppressions.with_options(read_concern=ReadConcern("majority"))

    async def add(self, project: str, suppression: Suppression) -> None:
        fields = {
            "subscriber": suppression.subscriber,
            "queue": suppression.queue,
            "subscription_id": suppression.subscription_id,
            "suppressed_at": suppression.suppressed_at,
        }
        key = {"_id": _key(project, suppression.id)}
        with storage_errors():
            try:
                await self._suppressions.update_one(key, {"$setOnInsert": fields}, upsert=True)
            except DuplicateKeyError:
                # Another process stores it at this moment; this write waits until that one is durable.
                await self._suppressions.update_one(key, {"$setOnInsert": fields}, upsert=True)

    async def get(self, project: str, suppression_id: str) -> Suppression | None:
        key = {"_id": _key(project, suppression_id)}
        with storage_errors():
            stored = await self._durable.find_one(key, hint=BY_ID)
        return None if stored is None else _suppression(stored)

    async def list(self, project: str, *, marker: str | None, limit: int) -> list[Suppression]:
        wanted = {"_id": {"$gt": _key(project, marker or ""), "$lt": f"{project}\x01"}}
        with storage_errors():
            found = await self._durable.find(
                wanted, sort=[("_id", 1)], limit=limit, batch_size=limit, hint=BY_ID
            ).to_list()
        return [_suppression(stored) for stored in found]

    async def remove(self, project: str, suppression_id: str) -> None:
        with storage_errors():
            await self._suppressions.delete_one({"_id": _key(project, suppression_id)}, hint=BY_ID)


def _key(project: str, suppression_id: str) -> str:
    return f"{project}\0{suppression_id}"


def _suppression(stored: Document) -> Suppression:
    return Suppression(
        stored["_id"].rpartition("\0")[2],
        stored["subscriber"],
        stored["queue"],
        stored["subscription_id"],
        stored["suppressed_at"],
    )
