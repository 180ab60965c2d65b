"""Turns among the requests of one project that read: whoever asks for much waits, and not the others.

A page of 5 MB takes some 10 ms of the one event loop, and a hundred of them would hold back whatever else
comes in meanwhile. So a project has a share: bytes that are read and put together at once, and bytes that
its clients have not read yet. What is beyond waits in order. A large answer counts until the event loop
has looked after everybody else once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

LARGE_BYTES = 256 << 10
"""Each answer counts as so much at least: of small ones 32 are read at once, more than keep one process busy."""

MOST_AT_ONCE_BYTES = 8 << 20
"""Read and put together at once for one project; two pages of 5 MB."""

PART_OF_UNREAD = 4
"""One project's clients leave at most this part unread of what all may (`ZAQAR_MAX_BUFFERED_BYTES`)."""

READ_SECONDS = 1.0
"""After which an answer that is still unread makes nobody wait: only the budget of all counts it."""

STUCK_SECONDS = 1.0
"""When no turn has ended for so long, the store is stuck. Nobody has to wait for that to fail in turns."""

READ = "zaqar_notify.read"
"""In a scope: waits until the client has read nearly all of what it was sent, or has gone."""

MOST_LINES = 1000
"""Projects whose lines are known. Who has a turn ends it in its own line, whatever is forgotten."""


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
    """What one project has under way, and who waits for it to become less."""

    def __init__(self, most_unread_bytes: int) -> None:
        self._most_unread_bytes = most_unread_bytes
        self._unread_bytes = 0
        self._at_once_bytes = 0
        self._expected_bytes = LARGE_BYTES
        """What an answer has lately; the next one counts as much until it is made."""
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._ended = 0
        self._watch: asyncio.TimerHandle | None = None

    async def begin(self) -> Turn:
        """Wait for a turn. Who has one ends it."""
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
        """So many bytes wait for their client, until `read` returns or it has had its time."""
        self._unread_bytes += size
        try:
            async with asyncio.timeout(READ_SECONDS):
                await read()
        except (TimeoutError, asyncio.CancelledError):
            pass  # The request is answered: whoever stops the server has no more to wait for.
        finally:
            self._unread_bytes -= size
            self._go_on()

    def note_size(self, size: int) -> None:
        """Up at once, and down by halves."""
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
    """One request's."""

    __slots__ = ("_counted", "_line")

    def __init__(self, line: Line, counted: int) -> None:
        self._line = line
        self._counted = counted

    def end(self, size: int) -> None:
        """The answer is made, of so many bytes."""
        self._line.note_size(size)
        if size > LARGE_BYTES:
            asyncio.get_running_loop().call_soon(self._line.leave, self._counted)
        else:
            self._line.leave(self._counted)

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Others have the turn while nothing is read, as in a long poll."""
        self._line.leave(self._counted)
        self._counted = 0
        yield
        self._counted = (await self._line.begin())._counted
