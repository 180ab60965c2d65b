"""Revocations of pre-signed URLs in the MongoDB database. The collection is small, and not sharded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import queue_key
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.shares import MOST_RECORDS, Shares
from zaqar_notify.storage.values import to_ms


class MongoShares(Shares):
    def __init__(self, collections: Collections) -> None:
        self._shares = collections.shares
        # A fail-over must not undo a revocation that was seen.
        self._durable = collections.shares.with_options(read_concern=ReadConcern("majority"))

    async def generation(self, ref: QueueRef) -> int:
        keys = {"_id": {"$in": [queue_key(ref), _all_queues(ref)]}}
        with storage_errors():
            return _latest(await self._durable.find(keys, hint=BY_ID).to_list())

    async def revoke(self, ref: QueueRef, *, now: datetime) -> None:
        last = await self.generation(ref)
        with storage_errors():
            await self._raise(queue_key(ref), max(to_ms(now), last + 1))
            records = await self._durable.find(_of_project(ref), hint=BY_ID).to_list()
            if len(records) > MOST_RECORDS:
                latest = _latest(records) + 1
                await self._raise(_all_queues(ref), latest)
                # One that was raised meanwhile stays.
                earlier = {**_of_project(ref), "generation": {"$lt": latest}}
                await self._shares.delete_many(earlier, hint=BY_ID)

    async def _raise(self, key: str, generation: int) -> None:
        after_present = {"$add": [{"$ifNull": ["$generation", 0]}, 1]}
        later = [{"$set": {"generation": {"$max": [after_present, generation]}}}]
        while True:
            try:
                await self._shares.update_one({"_id": key}, later, upsert=True)
            except DuplicateKeyError:
                continue  # Another process made it meanwhile.
            return


def _all_queues(ref: QueueRef) -> str:
    """The key of the record for all queues of the project: no queue has an empty name."""
    return queue_key(QueueRef(ref.project, ""))


def _of_project(ref: QueueRef) -> Document:
    return {"_id": {"$gte": _all_queues(ref), "$lt": f"{ref.project}\x01"}}


def _latest(records: Sequence[Document]) -> int:
    return max((int(record["generation"]) for record in records), default=0)
