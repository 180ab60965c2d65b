"""Queues' records in the MongoDB database. Metadata are kept as JSON text: their keys and numbers are none of
MongoDB's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from zaqar_notify.errors import QueueDoesNotExist
from zaqar_notify.models import JsonObject, Queue, QueueRef
from zaqar_notify.storage.control import (
    ALL_NAMES,
    Names,
    QueueRecord,
    QueueRecords,
    names_after,
)
from zaqar_notify.storage.matching import has_metadata
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    queue_key,
    to_ref,
)
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import (
    BY_ID,
    UNAPPLIED,
)
from zaqar_notify.storage.values import from_json, to_json

LISTED_AT_ONCE = 1000
OUR_RECORDS = {"_id": {"$type": "string"}, "metadata": {"$type": "string"}}


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
        topics: bool = False,
    ) -> list[Queue]:
        queues: list[Queue] = []
        wanted = _named(project, names_after(marker, topics=topics))
        matching = self._matching(wanted, limit, name_contains, metadata_equals)
        with storage_errors():
            async for queue in matching:
                queues.append(queue)
                if len(queues) == limit:
                    break
        return queues

    async def count(
        self, project: str, *, name_contains: str = "", metadata_equals: JsonObject | None = None
    ) -> int:
        wanted = _named(project, names_after(None, topics=False))
        with storage_errors():
            if not name_contains and not metadata_equals:
                return await self._records.count_documents(wanted, hint=BY_ID)
            matching = self._matching(wanted, LISTED_AT_ONCE, name_contains, metadata_equals)
            return len([queue async for queue in matching])

    async def count_all(self, project: str) -> int:
        with storage_errors():
            return await self._records.count_documents(_named(project, ALL_NAMES), hint=BY_ID)

    async def _matching(
        self, named: Document, limit: int, name_contains: str, wanted: JsonObject | None
    ) -> AsyncIterator[Queue]:
        found = self._records.find(
            named,
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


def _record(stored: Document) -> QueueRecord:
    ref = to_ref(stored["_id"])
    queue = Queue(ref, from_json(stored["metadata"]), stored["created_at"])
    return QueueRecord(queue, stored["revision"])


def _named(project: str, names: Names) -> Document:
    """The queues of a project with names between these two."""
    after, before = names
    return {"_id": {"$gt": f"{project}\0{after}", "$lt": f"{project}\0{before}"}}
