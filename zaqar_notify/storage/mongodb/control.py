"""The control store of one MongoDB database."""

from __future__ import annotations

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import (
    ControlStore,
)
from zaqar_notify.storage.mongodb.catalogue import MongoCatalogue
from zaqar_notify.storage.mongodb.connection import Collections
from zaqar_notify.storage.mongodb.encrypted import EncryptedSubscriptions
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.pools import MongoPools
from zaqar_notify.storage.mongodb.quotas import MongoQuotaRecords
from zaqar_notify.storage.mongodb.records import MongoQueueRecords
from zaqar_notify.storage.mongodb.shares import MongoShares
from zaqar_notify.storage.mongodb.subscriptions import MongoSubscriptions
from zaqar_notify.storage.mongodb.suppressions import MongoSuppressions
from zaqar_notify.storage.mongodb.tokens import MongoTokens
from zaqar_notify.storage.pools import EncryptedPools


class MongoControl(ControlStore):
    """Of the database that a `MongoStore` has opened. Closing either closes the client."""

    def __init__(self, collections: Collections, keys: Keyring) -> None:
        self._collections = collections
        self.records = MongoQueueRecords(collections)
        self.subscriptions = MongoSubscriptions(collections, keys)
        self.tokens = MongoTokens(collections)
        self.quotas = MongoQuotaRecords(collections)
        self.shares = MongoShares(collections)
        self.suppressions = MongoSuppressions(collections)
        self.pools = MongoPools(collections, keys)
        self.catalogue = MongoCatalogue(collections)
        self.encrypted = (
            EncryptedSubscriptions(collections, keys),
            EncryptedPools(self.pools, keys),
        )

    async def ping(self) -> None:
        with storage_errors():
            await self._collections.client.admin.command("ping")

    async def close(self) -> None:
        await self._collections.close()
