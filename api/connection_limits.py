"""Bounds over all connections of a process: how many there are, and how much of its answers they leave unread."""

from __future__ import annotations

import logging
from typing import Protocol

from zaqar_notify.files import attainable_files
from zaqar_notify.settings import Settings

logger = logging.getLogger(__name__)


class Limited(Protocol):
    """A connection, as far as this module goes."""

    def end(self) -> None: ...

    def unread_bytes(self) -> int: ...


class ConnectionLimits:
    """The connections of a process, and which of them is ended when they are too many or hold too much.

    Too many: the connection that has been without a request for the longest time is ended. When all have
    one, the new connection is refused. Too much unread: the connection with the most of it is ended.
    """

    def __init__(self, *, most: int, most_unread_bytes: int) -> None:
        self._most = most
        self._most_unread_bytes = most_unread_bytes
        self._idle: dict[Limited, None] = {}
        self._working: set[Limited] = set()
        self._unread: dict[Limited, int] = {}
        self._unread_bytes = 0

    def admit(self, connection: Limited) -> bool:
        """Count a new connection in; False when there is no room for it."""
        if len(self._idle) + len(self._working) >= self._most:
            logger.warning(
                "There are as many connections as there may be",
                extra={"action": "connections_full", "most": self._most},
            )
            if not self._idle:
                return False
            idlest = next(iter(self._idle))
            del self._idle[idlest]
            idlest.end()
        self._idle[connection] = None
        return True

    def begin(self, connection: Limited) -> None:
        """A request of it is being worked on."""
        self._idle.pop(connection, None)
        self._working.add(connection)

    def rest(self, connection: Limited) -> None:
        """Its requests are answered."""
        self._working.discard(connection)
        self._idle[connection] = None

    def forget(self, connection: Limited) -> None:
        """It has ended."""
        self._working.discard(connection)
        self._idle.pop(connection, None)
        self.note_unread(connection, 0)

    def note_unread(self, connection: Limited, size: int) -> None:
        """So many bytes wait for its client; 0: it has read them."""
        self._unread_bytes += size - self._unread.pop(connection, 0)
        if size:
            self._unread[connection] = size
        while self._unread_bytes > self._most_unread_bytes:
            self._end_largest()

    def _end_largest(self) -> None:
        # Some have been read from since they were noted.
        self._unread = {each: each.unread_bytes() for each in self._unread}
        self._unread_bytes = sum(self._unread.values())
        if self._unread_bytes <= self._most_unread_bytes:
            return
        largest = max(self._unread, key=self._unread.__getitem__)
        size = self._unread.pop(largest)
        self._unread_bytes -= size
        logger.warning(
            "A connection is ended: too much is unread in all",
            extra={"action": "answer_unread", "bytes": size, "most": self._most_unread_bytes},
        )
        largest.end()


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Of one process. The other half of its files is for the store and for deliveries."""
    files = attainable_files()
    most = settings.max_connections if files is None else min(settings.max_connections, files // 2)
    return ConnectionLimits(most=most, most_unread_bytes=settings.max_unread_bytes)
