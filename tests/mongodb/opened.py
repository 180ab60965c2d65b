"""Stores on a MongoDB database, opened as a process opens them."""

from __future__ import annotations

from zaqar_notify.storage.mongodb import MongoStore
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


async def opened(uri: str, *, unreliable: bool = False, prepare: bool = True) -> Storage:
    return await open_storage(uri, unreliable=unreliable, prepare=prepare)


def store_of(storage: Storage) -> MongoStore:
    """The driver's store, for faults that come from below."""
    assert isinstance(storage.store, MongoStore)
    return storage.store
