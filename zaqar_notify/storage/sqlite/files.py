"""Whether the files in use are still the ones that were opened.

SQLite writes on into an open file, whatever becomes of the file's name. What was removed, replaced or
cut off under a running process would take writes that no later start finds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from zaqar_notify.errors import StorageDamaged

OTHERS_SECONDS = 0.25
"""Between looks at the log's index and the lock, without which another process does harm, but no write
of ours is lost."""


class Files:
    """The database with its write-ahead log, the log's index, and the lock; a check takes microseconds."""

    def __init__(self, path: Path, *, log_bytes: int) -> None:
        """Know the files by what they are now: they are open, and all there.

        Args:
            log_bytes: SQLite itself cuts the write-ahead log to this, when it is longer.

        Raises:
            StorageDamaged: One is gone already.
        """
        self._with_data = (
            _File(path, cut_to=None),
            _File(Path(f"{path}-wal"), cut_to=log_bytes),
        )
        self._others = (
            _File(Path(f"{path}-shm"), cut_to=0),
            _File(Path(f"{path}.lock"), cut_to=0),
        )
        self._look_at_others_at = 0.0

    def check(self) -> None:
        """Look at those with data, now and then at the others, and note how long each is.

        Raises:
            StorageDamaged: One was removed, replaced, or cut off since the last look.
        """
        for file in self._with_data:
            file.check()
        if time.monotonic() >= self._look_at_others_at:
            for file in self._others:
                file.check()
            self._look_at_others_at = time.monotonic() + OTHERS_SECONDS


class _File:
    __slots__ = ("_cut_to", "_identity", "_name", "_size")

    def __init__(self, path: Path, *, cut_to: int | None) -> None:
        """`cut_to`: it may become as short as that; None: not shorter at all."""
        self._name = str(path)
        self._cut_to = cut_to
        found = self._stat()
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size

    def check(self) -> None:
        found = self._stat()
        if (found.st_dev, found.st_ino) != self._identity:
            raise StorageDamaged(f"{self._name} was replaced while it was in use; {REMEDY}")
        least = self._size if self._cut_to is None else min(self._size, self._cut_to)
        if found.st_size < least:
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
