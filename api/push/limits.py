"""How many sockets each project has open in this process."""

from __future__ import annotations

from collections import Counter

from zaqar_notify.errors import NotPermitted


class TooManySockets(NotPermitted):
    def __init__(self, most: int) -> None:
        super().__init__(
            f"The project has {most} WebSocket connections to this process, as many as it may; close some"
        )


class SocketLimits:
    """Counts the sockets of each project."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def enter(self, project: str) -> None:
        """Count a socket of the project.

        Raises:
            TooManySockets: It has as many as it may.
        """
        if self._open[project] >= self._most:
            raise TooManySockets(self._most)
        self._open[project] += 1

    def leave(self, project: str) -> None:
        self._open[project] -= 1
        if not self._open[project]:
            del self._open[project]
