"""MongoDB replica sets and sharded clusters, by `mongodb://` and `mongodb+srv://`."""

from __future__ import annotations

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.driver import Capability, Driver
from zaqar_notify.storage.mongodb.storage import MongoStore


class MongoDriver(Driver):
    about = "a MongoDB database"
    capabilities = frozenset(Capability)
    # A post's job is one document, of which MongoDB takes 16 MiB.
    most_post_bytes = 12 << 20

    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        return await MongoStore.open(uri, unreliable=unreliable, prepare=prepare, keys=keys)
