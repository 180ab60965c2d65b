"""The catalogue in the MongoDB database. Shard key `_id`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.catalogue import Catalogue, Entry
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import queue_key, to_ref
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_DOUBT, BY_ID, BY_POOL

OUR_ENTRIES: Document = {"_id": {"$type": "string"}, "pool": {"$type": "string"}}


class MongoCatalogue(Catalogue):
    def __init__(self, collections: Collections) -> None:
        self._entries = collections.catalogue
        # A fail-over must not undo an entry by which messages were stored.
        self._durable = collections.catalogue.with_options(read_concern=ReadConcern("majority"))

    async def get(self, ref: QueueRef) -> str | None:
        with storage_errors():
            stored = await self._durable.find_one({"_id": queue_key(ref)}, hint=BY_ID)
        return None if stored is None else stored["pool"]

    async def place(self, ref: QueueRef, pool: str, *, now: datetime) -> str:
        placed = {"$setOnInsert": {"pool": pool}, "$set": {"doubted_at": now}}
        while True:
            with storage_errors():
                try:
                    stored = await self._entries.find_one_and_update(
                        {"_id": queue_key(ref)},
                        placed,
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                        hint=BY_ID,
                    )
                except DuplicateKeyError:
                    continue  # Another process made it meanwhile.
            if stored is not None:
                return str(stored["pool"])

    async def move(
        self, ref: QueueRef, source: str, target: str, *, attempt: str | None = None
    ) -> bool:
        on_source = {"_id": queue_key(ref), "pool": source}
        wanted = on_source if attempt is None else {**on_source, "attempt": attempt}
        return await self._change(wanted, {"$set": {"pool": target}, "$unset": {"attempt": ""}})

    async def let(self, ref: QueueRef, pool: str, attempt: str) -> bool:
        wanted = {"_id": queue_key(ref), "pool": pool}
        return await self._change(wanted, {"$set": {"attempt": attempt}})

    async def _change(self, wanted: Document, change: Document) -> bool:
        with storage_errors():
            result = await self._entries.update_one(wanted, change, hint=BY_ID)
        return result.matched_count == 1

    async def doubt(self, ref: QueueRef, *, now: datetime) -> None:
        with storage_errors():
            await self._entries.update_one(
                {"_id": queue_key(ref)}, {"$set": {"doubted_at": now}}, hint=BY_ID
            )

    async def doubted(self, *, before: datetime, limit: int) -> Sequence[Entry]:
        with storage_errors():
            found = await self._durable.find(
                {"doubted_at": {"$lt": before}, **OUR_ENTRIES},
                sort=[("doubted_at", 1)],
                limit=limit,
                batch_size=limit,
                hint=BY_DOUBT,
            ).to_list()
        return [Entry(to_ref(each["_id"]), each["pool"], each["doubted_at"]) for each in found]

    async def believe(self, entry: Entry) -> None:
        with storage_errors():
            await self._entries.update_one(_key(entry), {"$unset": {"doubted_at": ""}}, hint=BY_ID)

    async def remove(self, entry: Entry) -> None:
        with storage_errors():
            await self._entries.delete_one(_key(entry), hint=BY_ID)

    async def of_pool(self, pool: str, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        key = "" if after is None else queue_key(after)
        with storage_errors():
            found = await self._durable.find(
                {"pool": pool, "_id": {"$gt": key}},
                {"_id": 1},
                sort=[("pool", 1), ("_id", 1)],
                limit=limit,
                batch_size=limit,
                hint=BY_POOL,
            ).to_list()
        return [to_ref(each["_id"]) for each in found]


def _key(entry: Entry) -> Document:
    return {"_id": queue_key(entry.ref), "doubted_at": entry.doubted_at}
