"""Whether the files in use are still the ones that were opened.

SQLite writes on into an open file, whatever becomes of the file's name. What was removed, replaced or
cut off under a running process would take writes that no later start finds.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from zaqar_notify.errors import StorageDamaged


class Files:
    """The database with its write-ahead log, the log's index, and the lock; a check takes microseconds."""

    def __init__(self, path: Path) -> None:
        """Know the files by what they are now: they are open, and all there.

        Raises:
            StorageDamaged: One is gone already.
        """
        self._watched = [
            _File(Path(f"{path}{suffix}"), may_shrink=suffix not in GROWING)
            for suffix in ("", "-wal", "-shm", ".lock")
        ]
        self._looking = threading.Lock()

    def check(self) -> None:
        """Look at each, and note how long it is.

        Raises:
            StorageDamaged: One was removed, replaced, or cut off since the last look.
        """
        with self._looking:
            for file in self._watched:
                file.check()


GROWING = ("", "-wal")
"""Of these a later start reads what is in them; we never make them shorter."""


class _File:
    __slots__ = ("_identity", "_may_shrink", "_name", "_size")

    def __init__(self, path: Path, *, may_shrink: bool) -> None:
        self._name = str(path)
        self._may_shrink = may_shrink
        found = self._stat()
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size

    def check(self) -> None:
        found = self._stat()
        if (found.st_dev, found.st_ino) != self._identity:
            raise StorageDamaged(f"{self._name} was replaced while it was in use; {REMEDY}")
        if found.st_size < self._size and not self._may_shrink:
            raise StorageDamaged(f"{self._name} was cut off while it was in use; {REMEDY}")
        self._size = found.st_size

    def _stat(self) -> os.stat_result:
        try:
            return os.stat(self._name)
        except OSError as error:
            raise StorageDamaged(
                f"{self._name} was removed while it was in use ({error.strerror}); {REMEDY}"
            ) from error


REMEDY = (
    "nothing is written any more: save what is left, then restore the last backup "
    "(docs/operations.md, A damaged or missing database)"
)
