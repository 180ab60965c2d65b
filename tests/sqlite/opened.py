"""A store on a file, opened as a process opens it."""

from __future__ import annotations

from pathlib import Path

from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite import SQLiteStore
from zaqar_notify.storage.sqlite.database import Database


async def opened(path: Path) -> Storage:
    return await open_storage(f"sqlite://{path}")


def database_of(storage: Storage) -> Database:
    """The file beneath, for faults that come from outside."""
    assert isinstance(storage.store, SQLiteStore)
    return storage.store.database
