"""The control store of one SQLite file."""

from __future__ import annotations

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import (
    ControlStore,
)
from zaqar_notify.storage.pools import EncryptedPools
from zaqar_notify.storage.sqlite.catalogue import SQLiteCatalogue
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.encrypted import EncryptedSubscriptions
from zaqar_notify.storage.sqlite.failures import storage_errors
from zaqar_notify.storage.sqlite.pools import SQLitePools
from zaqar_notify.storage.sqlite.quotas import SQLiteQuotaRecords
from zaqar_notify.storage.sqlite.records import SQLiteQueueRecords
from zaqar_notify.storage.sqlite.shares import SQLiteShares
from zaqar_notify.storage.sqlite.subscriptions import SQLiteSubscriptions
from zaqar_notify.storage.sqlite.suppressions import SQLiteSuppressions
from zaqar_notify.storage.sqlite.tokens import SQLiteTokens


class SQLiteControl(ControlStore):
    """Of the file that a `SQLiteStore` has opened. Closing either closes the file."""

    def __init__(self, database: Database, keys: Keyring) -> None:
        self._database = database
        self.records = SQLiteQueueRecords(database)
        self.subscriptions = SQLiteSubscriptions(database, keys)
        self.tokens = SQLiteTokens(database)
        self.quotas = SQLiteQuotaRecords(database)
        self.shares = SQLiteShares(database)
        self.suppressions = SQLiteSuppressions(database)
        self.pools = SQLitePools(database, keys)
        self.catalogue = SQLiteCatalogue(database)
        self.encrypted = (
            EncryptedSubscriptions(database, keys),
            EncryptedPools(self.pools, keys),
        )

    async def ping(self) -> None:
        self._database.read_one("SELECT 1")

    async def close(self) -> None:
        with storage_errors:
            await self._database.close()
