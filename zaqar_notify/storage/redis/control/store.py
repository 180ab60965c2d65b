"""The control store of one Redis, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import ControlStore
from zaqar_notify.storage.pools import EncryptedPools
from zaqar_notify.storage.redis.connection import Connection
from zaqar_notify.storage.redis.control.catalogue import RedisCatalogue
from zaqar_notify.storage.redis.control.encrypted import EncryptedSubscriptions
from zaqar_notify.storage.redis.control.pools import RedisPools
from zaqar_notify.storage.redis.control.quotas import RedisQuotaRecords
from zaqar_notify.storage.redis.control.records import RedisQueueRecords
from zaqar_notify.storage.redis.control.shares import RedisShares
from zaqar_notify.storage.redis.control.subscriptions import RedisSubscriptions
from zaqar_notify.storage.redis.control.suppressions import RedisSuppressions
from zaqar_notify.storage.redis.control.tokens import RedisTokens
from zaqar_notify.storage.redis.control.writing import Writing


class RedisControl(ControlStore):
    """Of the Redis that a `RedisStore` has opened. Closing either closes both."""

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        keys: Keyring,
        *,
        close_store: Callable[[], Awaitable[None]],
    ) -> None:
        writing = Writing(connection, prefix)
        self._connection = connection
        self._close_store = close_store
        self.records = RedisQueueRecords(writing)
        self.subscriptions = subscriptions = RedisSubscriptions(writing, keys)
        self.tokens = RedisTokens(writing)
        self.quotas = RedisQuotaRecords(writing)
        self.shares = RedisShares(writing)
        self.suppressions = RedisSuppressions(writing)
        self.pools = RedisPools(writing, keys)
        self.catalogue = RedisCatalogue(writing)
        self.encrypted = (
            EncryptedSubscriptions(subscriptions.table, keys),
            EncryptedPools(self.pools, keys),
        )

    async def ping(self) -> None:
        await self._connection.call("PING")

    async def close(self) -> None:
        await self._close_store()
