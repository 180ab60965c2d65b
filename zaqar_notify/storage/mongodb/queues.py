"""Queues' records. Metadata is kept as JSON text: its keys and numbers are none of MongoDB's business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from zaqar_notify.errors import QueueDoesNotExist
from zaqar_notify.models import Document, OldestNewest, Queue, QueueRef, QueueStats
from zaqar_notify.storage.base import QueueStore
from zaqar_notify.storage.matching import has_metadata
from zaqar_notify.storage.mongodb.cancelling import Cancelling, leave_messages_behind
from zaqar_notify.storage.mongodb.connection import Connection
from zaqar_notify.storage.mongodb.connection import Document as Stored
from zaqar_notify.storage.mongodb.documents import (
    FREE,
    from_json,
    id_of,
    new_queue_id,
    place,
    queue_key,
    to_json,
    to_ms,
    to_queue,
)
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_CLAIM, BY_DUE, BY_EXPIRY, BY_ID
from zaqar_notify.storage.mongodb.records import Records

LISTED_AT_ONCE = 1000
_LAST_POSITION = (1 << 64) - 1


class MongoQueues(QueueStore):
    def __init__(self, connection: Connection, records: Records) -> None:
        self._connection = connection
        self._queues = connection.queues
        self._records = records
        self._cancelling = Cancelling(connection, records)

    async def get(self, ref: QueueRef) -> Queue | None:
        record = await self._records.get(ref)
        return None if record is None else record.queue

    async def create(self, ref: QueueRef, *, metadata: Document, now: datetime) -> bool:
        if await self.get(ref) is not None:
            return False
        with storage_errors():
            try:
                result = await self._queues.update_one(
                    {"_id": queue_key(ref), "metadata": None},
                    [
                        {
                            "$set": {
                                "queue": {"$ifNull": ["$queue", {"$literal": new_queue_id()}]},
                                "metadata": {"$literal": to_json(metadata)},
                                "created_at": now,
                                "unused_since": "$$REMOVE",
                            }
                        }
                    ],
                    upsert=True,
                )
            except DuplicateKeyError:
                return False
        return result.modified_count == 1 or result.upserted_id is not None

    async def update(self, ref: QueueRef, change: Callable[[Document], Document]) -> Document:
        with storage_errors():
            while True:
                stored = await self._queues.find_one(
                    {"_id": queue_key(ref)}, {"metadata": 1}, hint=BY_ID
                )
                if stored is None or stored.get("metadata") is None:
                    raise QueueDoesNotExist(ref.name)
                metadata = change(from_json(stored["metadata"]))
                result = await self._queues.update_one(
                    {"_id": queue_key(ref), "metadata": stored["metadata"]},
                    {"$set": {"metadata": to_json(metadata)}},
                )
                if result.matched_count:
                    return metadata

    async def delete(self, ref: QueueRef, *, now: datetime) -> None:
        with storage_errors():
            await self._cancelling.end_life(ref, _deletion(), now=now)

    async def delete_many(self, refs: Sequence[QueueRef]) -> None:
        """Delete internal queues, in one command; nothing on them needs to be cancelled."""
        deletions = [
            UpdateOne({"_id": queue_key(ref), "metadata": {"$ne": None}}, _deletion())
            for ref in refs
        ]
        with storage_errors():
            await self._queues.bulk_write(deletions, ordered=False)

    async def list(
        self,
        project: str,
        *,
        marker: str | None,
        limit: int,
        name_contains: str = "",
        metadata_equals: Document | None = None,
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
        self, project: str, *, name_contains: str = "", metadata_equals: Document | None = None
    ) -> int:
        with storage_errors():
            if not name_contains and not metadata_equals:
                return await self._queues.count_documents(_of_project(project, ""), hint=BY_ID)
            matching = self._matching(project, "", LISTED_AT_ONCE, name_contains, metadata_equals)
            return len([queue async for queue in matching])

    async def stats(self, ref: QueueRef, *, now: datetime) -> QueueStats:
        """Count from the indexes alone. Expired messages that were not swept yet are few, and looked at."""
        record = await self._records.get(ref)
        if record is None:
            return QueueStats(claimed=0, free=0)
        queue, now_ms = record.id, to_ms(now)
        messages = self._connection.messages
        with storage_errors():
            total, claimed, expired, oldest, newest = await asyncio.gather(
                messages.count_documents({"queue": queue, "due": {"$lte": FREE}}, hint=BY_DUE),
                messages.count_documents(
                    {
                        "queue": queue,
                        "claim": {"$exists": True},
                        "held_until": {"$gt": now_ms},
                    },
                    hint=BY_CLAIM,
                ),
                messages.count_documents(
                    {"queue": queue, "expires_at": {"$lte": now}, "due": {"$exists": True}},
                    hint=BY_EXPIRY,
                ),
                self._end(queue, now, 1),
                self._end(queue, now, -1),
            )
        # A claim never outlives its messages, so no expired message is under a live one.
        return QueueStats(
            claimed=claimed,
            free=max(total - claimed - expired, 0),
            oldest=oldest,
            newest=newest,
        )

    async def count_messages(self, project: str, *, prefix: str) -> int:
        count = 0
        with storage_errors():
            queues = self._queues.find(
                {"_id": _beginning(f"{project}\0{prefix}"), "metadata": {"$ne": None}},
                {"queue": 1},
                batch_size=LISTED_AT_ONCE,
                hint=BY_ID,
            )
            async with queues:
                while together := await queues.to_list(LISTED_AT_ONCE):
                    ids = [stored["queue"] for stored in together]
                    count += await self._connection.messages.count_documents(
                        {"queue": {"$in": ids}, "due": {"$lte": FREE}}, hint=BY_DUE
                    )
        return count

    async def _end(self, queue: bytes, now: datetime, direction: int) -> OldestNewest | None:
        """The first or last message that is not delayed."""
        found = await self._connection.messages.find_one(
            {
                "queue": queue,
                "_id": {"$gte": place(queue, 0), "$lte": place(queue, _LAST_POSITION)},
                "due": {"$exists": True},
                "expires_at": {"$gt": now},
                "$or": [{"held_until": {"$lte": to_ms(now)}}, {"claim": {"$exists": True}}],
            },
            {"moved_id": 1, "posted_at": 1},
            sort=[("_id", direction)],
            hint=BY_ID,
        )
        return None if found is None else OldestNewest(id_of(found), found["posted_at"])

    async def _matching(
        self, project: str, marker: str, limit: int, name_contains: str, wanted: Document | None
    ) -> AsyncIterator[Queue]:
        found = self._queues.find(
            _of_project(project, marker),
            {"metadata": 1, "created_at": 1},
            sort=[("_id", 1)],
            batch_size=min(max(limit, 2), LISTED_AT_ONCE),
            hint=BY_ID,
        )
        async with found:
            async for stored in found:
                name = stored["_id"].rpartition("\0")[2]
                queue = to_queue(QueueRef(project, name), stored)
                if queue is None or name_contains not in name:
                    continue
                if not wanted or has_metadata(queue.metadata, wanted):
                    yield queue


def _deletion() -> list[Stored]:
    """The update that takes away a queue with all that is on it."""
    gone = {"metadata": None, "created_at": None, "unused_since": "$$NOW"}
    return [{"$set": {**leave_messages_behind(), **gone}}]


def _beginning(text: str) -> Stored:
    """The range of keys that begin with `text`."""
    return {"$gte": text, "$lt": text[:-1] + chr(ord(text[-1]) + 1)}


def _of_project(project: str, marker: str) -> Stored:
    """The queues of a project after a name: the separator sorts before all other characters."""
    return {
        "_id": {"$gt": f"{project}\0{marker}", "$lt": f"{project}\x01"},
        "metadata": {"$ne": None},
    }
