"""Places for jobs on internal queues: positions taken by the thousand, used by many batches.

Jobs are claimed and never paged through with markers, so no reader needs to know which of them are still on their
way: no block that a seal has to end. That saves every post to a queue with subscriptions a reservation.
Deliveries that a post parks for an ordered subscription have places taken for their batch alone: so they come in the
order of their posts, whichever process takes these.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from bson import Int64
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.internal import PARKED_PREFIX
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    SERVER_POSITION,
    new_queue_id,
    new_rules,
    queue_key,
)
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.mongodb.post_batch import Appended, NewJob, Part, PostBatch
from zaqar_notify.storage.mongodb.watches import MongoWatches

RANGE_POSITIONS = 1 << 16
RANGE_SECONDS = 1.0
"""After which a process takes another range, behind all others: jobs are claimed by position, so those of a
process with an old range would come before the rest."""
ANNOUNCE_SECONDS = 0.25
"""Between two announcements on one queue, which is also rung for, as a rule."""


class _Range(msgspec.Struct):
    queue: bytes
    next: int
    end: int
    until: float


class JobPlaces:
    def __init__(self, collections: Collections, watches: MongoWatches) -> None:
        self._collections = collections
        self._watches = watches
        self._ranges: dict[QueueRef, _Range] = {}
        self._noted: set[QueueRef] = set()
        self._announcing: dict[QueueRef, asyncio.Task[None]] = {}

    async def place(self, batch: PostBatch) -> None:
        """Give each job of the batch a position of its own."""
        by_queue: dict[QueueRef, list[tuple[Part, NewJob]]] = {}
        for part in batch.parts.values():
            for job in part.jobs:
                by_queue.setdefault(job.ref, []).append((part, job))
        # A job must find what is parked for its subscriptions, so it is inserted behind that.
        for ref in sorted(by_queue, key=_is_outbox):
            jobs = by_queue[ref]
            queue, first = await self._take(ref, len(jobs))
            for position, (part, job) in enumerate(jobs, first):
                part.stored_jobs.setdefault(ref, Appended()).add_new(
                    [job.message],
                    queue,
                    position,
                    client_id=part.state.ref.project,
                    now=job.now,
                )

    def stored(self, batch: PostBatch) -> None:
        """The batch's jobs are stored: wake watches, here and soon in other processes."""
        stored: dict[QueueRef, Appended] = {}
        for part in batch.parts.values():
            for ref, jobs in part.stored_jobs.items():
                stored.setdefault(ref, Appended()).add(jobs.documents, jobs.delayed_to)
        for ref, jobs in stored.items():
            self._watches.came(ref, jobs.visible)
            if jobs.delayed_to:
                self._watches.held(ref, min(jobs.delayed_to))
            if not _is_outbox(ref):
                continue  # Nothing watches these: their job does.
            self._noted.add(ref)
            if ref not in self._announcing:
                task = asyncio.get_running_loop().create_task(self._announce(ref))
                self._announcing[ref] = task

    async def close(self) -> None:
        tasks = list(self._announcing.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _take(self, ref: QueueRef, count: int) -> tuple[bytes, int]:
        """The queue's id, and the first of so many positions in a row that no other process has."""
        if not _is_outbox(ref):
            own = await self._new_range(ref, count, until=0.0)
            return own.queue, own.next
        present = asyncio.get_running_loop().time()
        places = self._ranges.get(ref)
        if places is None or places.end - places.next < count or places.until <= present:
            size = max(RANGE_POSITIONS, count)
            places = await self._new_range(ref, size, until=present + RANGE_SECONDS)
            self._ranges[ref] = places
        first = places.next
        places.next += count
        return places.queue, first

    async def _new_range(self, ref: QueueRef, size: int, *, until: float) -> _Range:
        stored: Document | None = await self._collections.queues.find_one_and_update(
            {"_id": queue_key(ref)},
            [
                {
                    "$set": {
                        "queue": {"$ifNull": ["$queue", {"$literal": new_queue_id()}]},
                        "rules": {"$ifNull": ["$rules", new_rules(ref)]},
                        "unused_since": "$$REMOVE",
                        "next": {"$add": [{"$max": ["$next", SERVER_POSITION]}, Int64(size)]},
                    }
                }
            ],
            {"queue": 1, "next": 1},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            hint=BY_ID,
        )
        if stored is None:
            raise StorageUnavailable("MongoDB gave no answer to a reservation")
        return _Range(stored["queue"], stored["next"] - size, stored["next"], until)

    async def _announce(self, ref: QueueRef) -> None:
        try:
            while ref in self._noted:
                self._noted.discard(ref)
                # Waiting processes look by themselves, too.
                with suppress(PyMongoError):
                    await self._collections.quick_queues.update_one(
                        {"_id": queue_key(ref)}, {"$inc": {"turns": 1}}, hint=BY_ID
                    )
                await asyncio.sleep(ANNOUNCE_SECONDS)
        finally:
            del self._announcing[ref]


def _is_outbox(ref: QueueRef) -> bool:
    """Whether jobs of workers are there, and not deliveries of one subscription."""
    return not ref.name.startswith(PARKED_PREFIX)
