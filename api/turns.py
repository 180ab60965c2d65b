"""Turns among the reading requests of one project, so that large answers delay only their project.

A page of 5 MB takes some 10 ms of the one event loop. A hundred such pages would delay every other
request. So two amounts of each project are limited: the bytes of answers that are made at once, and
the bytes that its clients have not read yet. Requests beyond the limits wait in order. A large
answer counts until the event loop has run all other ready work once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

LARGE_BYTES = 256 << 10
"""Each answer counts as at least this. So 32 small ones are made at once, enough for a process."""

MOST_AT_ONCE_BYTES = 8 << 20
"""Bytes of answers that are made at once for one project; two pages of 5 MB."""

PART_OF_UNREAD = 4
"""One project may leave a quarter of `ZAQAR_MAX_BUFFERED_BYTES` unread."""

READ_SECONDS = 1.0
"""After this, an unread answer delays no request; it still counts in `ConnectionLimits`."""

STUCK_SECONDS = 1.0
"""When no turn has ended for so long, the store is stuck. All waiting requests then start at once,
so that they fail together instead of one after the other."""

READ = "zaqar_notify.read"
"""Key in a scope: a function that waits until the client has read nearly all bytes, or is gone."""

MOST_LINES = 1000
"""Projects whose lines are kept. A turn keeps its line, so a dropped line does no harm."""


class Turns:
    """The turns of all projects in one process."""

    def __init__(self, *, most_buffered_bytes: int) -> None:
        most_unread_bytes = most_buffered_bytes // PART_OF_UNREAD

        @lru_cache(MOST_LINES)
        def line(_project: str) -> Line:
            return Line(most_unread_bytes)

        self.of: Callable[[str], Line] = line
        """A project's line."""


class Line:
    """The turns of one project, and its requests that wait for one."""

    def __init__(self, most_unread_bytes: int) -> None:
        self._most_unread_bytes = most_unread_bytes
        self._unread_bytes = 0
        self._at_once_bytes = 0
        self._expected_bytes = LARGE_BYTES
        """Size of recent answers. The next answer counts as this until it is made."""
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._ended = 0
        self._watch: asyncio.TimerHandle | None = None

    async def begin(self) -> Turn:
        """Wait for a turn. The caller must end the turn."""
        if not self._waiting and self._is_open():
            return Turn(self, self._admit())
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._watch_turns()
        try:
            return Turn(self, await waiting)
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.leave(waiting.result())
            raise

    async def unread(self, size: int, read: Callable[[], Awaitable[object]]) -> None:
        """Count `size` bytes as unread, until `read` returns or `READ_SECONDS` have passed."""
        self._unread_bytes += size
        try:
            async with asyncio.timeout(READ_SECONDS):
                await read()
        except (TimeoutError, asyncio.CancelledError):
            pass  # The request is answered, so a stop of the server need not wait.
        finally:
            self._unread_bytes -= size
            self._go_on()

    def note_size(self, size: int) -> None:
        """Raise the expected size at once; lower it by half of the difference."""
        self._expected_bytes = max(LARGE_BYTES, size, (self._expected_bytes + size) // 2)

    def leave(self, counted: int) -> None:
        self._at_once_bytes -= counted
        self._ended += 1
        self._go_on()

    def _is_open(self) -> bool:
        return (
            self._at_once_bytes < MOST_AT_ONCE_BYTES
            and self._unread_bytes < self._most_unread_bytes
        )

    def _admit(self) -> int:
        counted = self._expected_bytes
        self._at_once_bytes += counted
        return counted

    def _go_on(self) -> None:
        while self._waiting and self._is_open():
            self._admit_first()

    def _admit_first(self) -> None:
        first = self._waiting.popleft()
        if not first.done():
            first.set_result(self._admit())

    def _watch_turns(self) -> None:
        if self._watch is None and self._waiting:
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(STUCK_SECONDS, self._check_turns, self._ended)

    def _check_turns(self, ended_before: int) -> None:
        self._watch = None
        if self._ended == ended_before and self._at_once_bytes:
            while self._waiting:
                self._admit_first()
        self._watch_turns()


class Turn:
    """The turn of one request."""

    __slots__ = ("_counted", "_line")

    def __init__(self, line: Line, counted: int) -> None:
        self._line = line
        self._counted = counted

    def end(self, size: int) -> None:
        """End the turn, after an answer of `size` bytes was made."""
        self._line.note_size(size)
        if size > LARGE_BYTES:
            asyncio.get_running_loop().call_soon(self._line.leave, self._counted)
        else:
            self._line.leave(self._counted)

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Leave the turn to other requests while this one reads nothing, as in a long poll."""
        self._line.leave(self._counted)
        self._counted = 0
        yield
        self._counted = (await self._line.begin())._counted
