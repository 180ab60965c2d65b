"""Whether the files in use are still the ones that were opened.

SQLite writes on into an open file even when the file's name is gone. A file that was removed, replaced
or cut off under a running process would take writes that no later start finds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from zaqar_notify.errors import StorageDamaged

ALL_SECONDS = 0.25
"""Between looks at all files before a write."""


class Files:
    """The database with its write-ahead log, the log's index, and the lock; a look takes microseconds."""

    def __init__(self, path: Path, *, log_bytes: int) -> None:
        """Remember the identity of the open files; all must be there.

        Args:
            log_bytes: SQLite itself cuts the write-ahead log to this, when it is longer.

        Raises:
            StorageDamaged: One is gone already.
        """
        self._log = _File(f"{path}-wal", cut_to=log_bytes)
        self._database = _File(str(path), cut_to=None)
        self._others = (_File(f"{path}-shm", cut_to=0), _File(f"{path}.lock", cut_to=0))
        self._look_at_all_at = 0.0

    def check_before(self) -> None:
        """Before a write: look at the log, which the write makes as long as it was; now and then at all.

        Without the index and the lock another process does harm, but no write of ours is lost.

        Raises:
            StorageDamaged: A file was removed, replaced, or cut off since the last look.
        """
        if time.monotonic() < self._look_at_all_at:
            self._log.check()
            return
        for file in (self._database, self._log, *self._others):
            file.check()
        self._look_at_all_at = time.monotonic() + ALL_SECONDS

    def check_after(self) -> None:
        """Check the files before their new writes are acknowledged.

        Raises:
            StorageDamaged: As `check_before` from now on, as long as the file is not put back.
        """
        try:
            self._database.check()
            self._log.check()
        except StorageDamaged:
            self._look_at_all_at = 0.0
            raise


class _File:
    __slots__ = ("_cut_to", "_device", "_inode", "_name", "_size")

    def __init__(self, name: str, *, cut_to: int | None) -> None:
        """`cut_to`: it may become as short as that; None: not shorter at all."""
        self._name = name
        self._cut_to = cut_to
        found = self._look()
        self._device, self._inode, self._size = found.st_dev, found.st_ino, found.st_size

    def check(self) -> None:
        found = self._look()
        if found.st_ino != self._inode or found.st_dev != self._device:
            raise StorageDamaged(f"{self._name} was replaced while it was in use; {REMEDY}")
        size = found.st_size
        if size < self._size and (self._cut_to is None or size < self._cut_to):
            raise StorageDamaged(f"{self._name} was cut off while it was in use; {REMEDY}")
        self._size = size

    def _look(self) -> os.stat_result:
        try:
            return os.stat(self._name)
        except OSError as error:
            raise StorageDamaged(
                f"{self._name} was removed while it was in use ({error.strerror}); {REMEDY}"
            ) from error


REMEDY = (
    "the store takes no more writes: save the remaining files, then restore the last backup "
    "(docs/backup.md, A damaged or missing database)"
)
