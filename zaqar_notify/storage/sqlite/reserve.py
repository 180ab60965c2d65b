"""Room that is kept for the day on which the disk is full.

A delete needs room, too: for the write-ahead log, before it frees any. So a file beside the database
holds some. It goes at the first write that finds the disk full; from then on growing writes are
refused, while deletes, claims, purges and the sweep go on in its place. It is made again when there
is room enough: on the disk, or inside the database, which uses deleted messages' pages again.
"""

from __future__ import annotations

import logging
import os
from enum import IntEnum
from pathlib import Path

RESERVE_BYTES = 8 << 20
"""Twice the usual size of the log, and room for some hundred thousand claims and deletes."""

logger = logging.getLogger(__name__)


class Grows(IntEnum):
    """Whether a write is admitted when room is short: it must leave this many halves of the reserve free."""

    NOT = 0
    """It frees room, or takes next to none."""
    ENGINE = 1
    """The engine's record of a delivery, which takes the place of another."""
    CLIENTS = 3
    """A post, or a new queue or subscription."""


class Reserve:
    """The file, and whether it is there. Belongs to the process that has the database."""

    def __init__(self, database: Path) -> None:
        self._path = reserve_of(database)
        self._size = RESERVE_BYTES
        self.is_released = not self._allocate()
        """The disk was full: only writes that leave enough room are admitted."""
        if self.is_released:
            self._tell()

    def release(self) -> bool:
        """Let go of the room; False when there was none to let go of."""
        if self.is_released:
            return False
        self.is_released = True
        self._path.unlink(missing_ok=True)
        self._tell()
        return True

    def admits(self, grows: Grows, room: int) -> bool:
        """Whether a write may go on while so many bytes are free."""
        return room >= self._size * grows // 2

    def make_again(self, room: int) -> None:
        """End the shortage, if there is room for a reserve and for further writes."""
        if not self.admits(Grows.CLIENTS, room) or not self._allocate():
            return
        self.is_released = False
        logger.info("There is room again for posts", extra={"action": "disk_room"})

    def free_bytes(self) -> int:
        """On the disk, for this user."""
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def _allocate(self) -> bool:
        """Take as much as there is, but for a little; False when that is less than a quarter.

        So much is enough when the log has taken its part of the last one, which it keeps.
        """
        size = min(self._size, self._held() + self.free_bytes() * 7 // 8)
        if size < self._size // 4:
            return False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError:
            self._path.unlink(missing_ok=True)
            return False
        return True

    def _held(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _tell(self) -> None:
        logger.error(
            "The disk is full: posts are refused; reads, claims and deletes go on",
            extra={"action": "disk_full", "path": str(self._path.parent)},
        )


def reserve_of(database: Path) -> Path:
    return Path(f"{database}.reserve")
