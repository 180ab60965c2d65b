"""Projects' own quotas in the MongoDB database. The collection is small, and not sharded."""

from __future__ import annotations

from collections.abc import Mapping

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from zaqar_notify.models import INTERNAL_PROJECT
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.quotas import QuotaRecords, Values

CHANGES = INTERNAL_PROJECT
"""The `_id` of the document that counts changes; no client's project has this name."""
OUR_QUOTAS: Document = {"_id": {"$type": "string", "$gt": CHANGES}, "own": {"$type": "object"}}
"""The form of our documents: `all` passes over documents that others may have put beside them."""


class MongoQuotaRecords(QuotaRecords):
    def __init__(self, collections: Collections) -> None:
        self._quotas = collections.quotas
        # A change that a fail-over could undo must not be seen.
        self._durable = collections.quotas.with_options(read_concern=ReadConcern("majority"))

    async def get(self, project: str) -> Values:
        with storage_errors():
            stored = await self._durable.find_one({"_id": project}, hint=BY_ID)
        return _values(stored)

    async def change(self, project: str, values: Mapping[str, int | None]) -> Values:
        kept = {f"own.{name}": value for name, value in values.items() if value is not None}
        removed = {f"own.{name}": "" for name, value in values.items() if value is None}
        update = {
            operator: each for operator, each in (("$set", kept), ("$unset", removed)) if each
        }
        with storage_errors():
            stored = await self._upsert(project, update)
            await self._upsert(CHANGES, {"$inc": {"revision": 1}})
        return _values(stored)

    async def revision(self) -> int:
        with storage_errors():
            stored = await self._durable.find_one({"_id": CHANGES}, hint=BY_ID)
        return 0 if stored is None else int(stored["revision"])

    async def all(self) -> Mapping[str, Values]:
        with storage_errors():
            found = await self._durable.find(OUR_QUOTAS, hint=BY_ID).to_list()
        return {stored["_id"]: _values(stored) for stored in found}

    async def _upsert(self, key: str, update: Document) -> Document | None:
        while True:
            try:
                return await self._quotas.find_one_and_update(
                    {"_id": key}, update, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                continue  # Another process made it meanwhile.


def _values(stored: Document | None) -> Values:
    own: Values = {} if stored is None else stored.get("own", {})
    return own
