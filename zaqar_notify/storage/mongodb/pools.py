"""Pools and flavors in the MongoDB database: one document."""

from __future__ import annotations

from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.mongodb.connection import Collections
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.pools import Document, Pools

REGISTERED = "registered"
"""The `_id` of the document."""


class MongoPools(Pools):
    def __init__(self, collections: Collections, keys: Keyring) -> None:
        super().__init__(keys)
        self._pools = collections.pools
        # A pool that a fail-over could undo must take no queue.
        self._durable = collections.pools.with_options(read_concern=ReadConcern("majority"))

    async def load(self) -> Document:
        with storage_errors():
            stored = await self._durable.find_one({"_id": REGISTERED}, hint=BY_ID)
        return (
            Document(0, b"") if stored is None else Document(stored["revision"], stored["content"])
        )

    async def replace(self, content: bytes, *, revision: int) -> bool:
        after = {"revision": revision + 1, "content": content}
        with storage_errors():
            if revision:
                same = {"_id": REGISTERED, "revision": revision}
                return (await self._pools.update_one(same, {"$set": after})).modified_count == 1
            try:
                await self._pools.insert_one({"_id": REGISTERED, **after})
            except DuplicateKeyError:
                return False
        return True
