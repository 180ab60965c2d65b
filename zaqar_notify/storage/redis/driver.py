"""Redis and Valkey, by `redis://` and, with TLS, `rediss://`."""

from __future__ import annotations

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.driver import Capability, Driver
from zaqar_notify.storage.redis.storage import RedisStore


class RedisDriver(Driver):
    about = "a Redis database"
    capabilities = frozenset(Capability)
    # No other command is served while a script stores a post.
    most_post_bytes = 16 << 20

    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        return await RedisStore.open(uri, unreliable=unreliable, prepare=prepare, keys=keys)
