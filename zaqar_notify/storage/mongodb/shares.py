"""Revocations of pre-signed URLs in the MongoDB database. The collection is small, and not sharded."""

from __future__ import annotations

from datetime import datetime

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import queue_key
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.shares import Shares
from zaqar_notify.storage.values import to_ms


class MongoShares(Shares):
    def __init__(self, collections: Collections) -> None:
        self._shares = collections.shares
        # A fail-over must not undo a revocation that was seen.
        self._durable = collections.shares.with_options(read_concern=ReadConcern("majority"))

    async def generation(self, ref: QueueRef) -> int:
        with storage_errors():
            stored = await self._durable.find_one({"_id": queue_key(ref)}, hint=BY_ID)
        return _generation(stored)

    async def revoke(self, ref: QueueRef, *, now: datetime) -> int:
        after_last = {"$add": [{"$ifNull": ["$generation", 0]}, 1]}
        later = [{"$set": {"generation": {"$max": [after_last, to_ms(now)]}}}]
        with storage_errors():
            while True:
                try:
                    stored = await self._shares.find_one_and_update(
                        {"_id": queue_key(ref)},
                        later,
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )
                except DuplicateKeyError:
                    continue  # Another process made it meanwhile.
                return _generation(stored)


def _generation(stored: Document | None) -> int:
    return 0 if stored is None else int(stored["generation"])
