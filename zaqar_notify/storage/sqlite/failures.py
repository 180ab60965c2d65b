"""The one place that knows SQLite's errors, and what ours they become."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import apsw

from zaqar_notify.errors import StorageDamaged, StorageFull, StorageLocked, StorageUnavailable
from zaqar_notify.storage.sqlite.files import REMEDY

NO_ROOM = "The disk that holds the database is full; make room there, or let messages be consumed"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn SQLite's failures into ours, keeping the cause."""
    try:
        yield
    except apsw.FullError as error:
        raise StorageFull(NO_ROOM) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StorageDamaged(f"The database can't be read ({error}); {REMEDY}") from error
    except apsw.BusyError as error:
        raise StorageLocked("Another program holds the database's lock") from error
    except (apsw.ConnectionClosedError, apsw.CursorClosedError) as error:
        raise StorageUnavailable("The store is closed") from error
    except apsw.Error as error:
        raise StorageUnavailable(f"SQLite: {error}") from error


def is_full(error: BaseException, connection: apsw.Connection) -> bool:
    """Whether there is no room for it: on the disk, in a quota, or under a limit on files."""
    if isinstance(error, apsw.IOError):
        return connection.system_errno in FULL
    return isinstance(error, apsw.FullError)
