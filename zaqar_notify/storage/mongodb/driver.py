"""MongoDB replica sets and sharded clusters, by `mongodb://` and `mongodb+srv://`."""

from __future__ import annotations

from zaqar_notify.storage.base import Storage
from zaqar_notify.storage.driver import Driver
from zaqar_notify.storage.mongodb.storage import MongoStorage


class MongoDriver(Driver):
    about = "a MongoDB database"
    # A post's job is one document, of which MongoDB takes 16 MiB.
    most_post_bytes = 12 << 20

    async def open(self, uri: str, *, unreliable: bool, prepare: bool) -> Storage:
        return await MongoStorage.open(uri, unreliable=unreliable, prepare=prepare)
