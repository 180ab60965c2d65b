"""From SQLite's errors to ours: the one place that knows them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Literal

import apsw

from zaqar_notify.errors import StorageDamaged, StorageFull, StorageLocked, StorageUnavailable
from zaqar_notify.storage.sqlite.files import REMEDY

NO_ROOM = "The disk that holds the database is full; make room there, or let messages be consumed"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StorageErrors:
    """Turns SQLite's failures into ours in a `with` block, keeping the cause.

    Not a generator's: each read goes through one.

    Args:
        note: Told when the database can't be read.
    """

    __slots__ = ("_note",)

    def __init__(self, note: Callable[[StorageDamaged], None] | None = None) -> None:
        self._note = note

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: object, error: BaseException | None, _traceback: object
    ) -> Literal[False]:
        if isinstance(error, apsw.Error):
            failure = _failure(error)
            if self._note is not None and isinstance(failure, StorageDamaged):
                self._note(failure)
            raise failure from error
        return False


storage_errors = StorageErrors()


def _failure(error: apsw.Error) -> StorageUnavailable:
    match error:
        case apsw.FullError():
            return StorageFull(NO_ROOM)
        case apsw.CorruptError() | apsw.NotADBError():
            return StorageDamaged(f"The database can't be read ({error}); {REMEDY}")
        case apsw.BusyError():
            return StorageLocked("Another program holds the database's lock")
        case apsw.ConnectionClosedError() | apsw.CursorClosedError():
            return StorageUnavailable("The store is closed")
        case _:
            return StorageUnavailable(f"SQLite: {error}")


def is_full(error: BaseException, connection: apsw.Connection) -> bool:
    """Whether there is no room for it: on the disk, in a quota, or under a limit on files."""
    if isinstance(error, apsw.IOError):
        return connection.system_errno in FULL
    return isinstance(error, apsw.FullError)
