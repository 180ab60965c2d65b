"""Bounds over all connections of a process: their number, and the bytes kept for slow clients."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Protocol

from zaqar_notify.files import attainable_files
from zaqar_notify.settings import Settings

ARRIVAL_SECONDS = 60.0
"""Time for one request, or one message of a WebSocket, to arrive whole, and for the first request of a
connection to begin."""

UNREAD_SECONDS = 30.0
"""A client that reads nothing of a waiting answer for this long loses its connection."""

logger = logging.getLogger(__name__)


class Limited(Protocol):
    """The part of a connection that this module uses."""

    def end(self) -> None: ...

    def buffered_bytes(self) -> int: ...


class ConnectionLimits:
    """The connections of a process, and the choice of the one to end at a limit.

    At the limit of connections, the connection that has been without a request for the longest time
    is ended. When every connection has a request, the new connection is refused. At the limit of
    bytes, the connection with the most bytes is ended.
    """

    def __init__(self, *, most: int, most_buffered_bytes: int, overloads: Counter[str]) -> None:
        """`overloads` counts refused and ended connections by reason.

        The reasons are `connections`, `idle` and `buffers`.
        """
        self._overloads = overloads
        self._most = most
        self._most_buffered_bytes = most_buffered_bytes
        self._idle: dict[Limited, None] = {}
        self._working: set[Limited] = set()
        self._buffered: dict[Limited, int] = {}
        self._buffered_bytes = 0

    def admit(self, connection: Limited) -> bool:
        """Count a new connection; False when there is no room for it."""
        if len(self._idle) + len(self._working) >= self._most:
            logger.warning(
                "The limit of connections is reached",
                extra={"action": "connections_full", "most": self._most},
            )
            if not self._idle:
                self._overloads["connections"] += 1
                return False
            self._overloads["idle"] += 1
            idlest = next(iter(self._idle))
            del self._idle[idlest]
            idlest.end()
        self._idle[connection] = None
        return True

    def begin(self, connection: Limited) -> None:
        """Note that a request of the connection has begun."""
        self._idle.pop(connection, None)
        self._working.add(connection)

    def rest(self, connection: Limited) -> None:
        """Note that all requests of the connection are answered."""
        self._working.discard(connection)
        self._idle[connection] = None

    def forget(self, connection: Limited) -> None:
        """Note that the connection has ended."""
        self._working.discard(connection)
        self._idle.pop(connection, None)
        self.note_buffered(connection, 0)

    def note_buffered(self, connection: Limited, size: int) -> None:
        """Note the bytes that are kept until the client sends the rest, or reads them."""
        self._buffered_bytes += size - self._buffered.pop(connection, 0)
        if size:
            self._buffered[connection] = size
        while self._buffered_bytes > self._most_buffered_bytes:
            self._end_largest()

    def _end_largest(self) -> None:
        # Some connections keep fewer bytes by now than were noted.
        self._buffered = {each: each.buffered_bytes() for each in self._buffered}
        self._buffered_bytes = sum(self._buffered.values())
        if self._buffered_bytes <= self._most_buffered_bytes:
            return
        largest = max(self._buffered, key=self._buffered.__getitem__)
        size = self._buffered.pop(largest)
        self._buffered_bytes -= size
        self._overloads["buffers"] += 1
        logger.warning(
            "A connection is closed, because slow clients hold too many bytes in all",
            extra={"action": "buffers_full", "bytes": size, "most": self._most_buffered_bytes},
        )
        largest.end()


def connection_limits(settings: Settings, overloads: Counter[str]) -> ConnectionLimits:
    """The limits of one process. Half of its files stay free for the store and for deliveries."""
    files = attainable_files()
    most = settings.max_connections if files is None else min(settings.max_connections, files // 2)
    return ConnectionLimits(
        most=most, most_buffered_bytes=settings.max_buffered_bytes, overloads=overloads
    )
