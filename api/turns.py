"""Turns among the requests of one project that read messages, so that costly ones delay only their project.

A page of 5 MB takes some 10 ms of the one event loop. A hundred such pages would delay every other
request. So two amounts of each project are limited: the bytes of answers that are made at once, and
the bytes that its clients have not read yet. Requests beyond the limits wait in order. A small
answer that takes long to make counts as a large one that takes as long. A large answer counts until
the event loop has run all other ready work once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from time import perf_counter
from typing import Any, Generic, TypeVar

LARGE_BYTES = 256 << 10
"""Each answer to a reader counts as at least this. So 32 small ones are made at once, enough for a process."""

TAKEN_BYTES = 16 << 10
"""The same for claims and pops: 512 small ones at once, since those that come together share a commit."""

BYTES_PER_SECOND = 500_000_000
"""An answer that takes a second of the event loop counts as so large."""

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

T = TypeVar("T")


class Turns:
    """The turns of all projects in one process."""

    def __init__(self, *, most_buffered_bytes: int) -> None:
        most_unread_bytes = most_buffered_bytes // PART_OF_UNREAD

        @lru_cache(MOST_LINES)
        def line(_project: str) -> Line:
            return Line(most_unread_bytes, LARGE_BYTES)

        @lru_cache(MOST_LINES)
        def taking(_project: str) -> Line:
            return Line(most_unread_bytes, TAKEN_BYTES)

        self.of: Callable[[str], Line] = line
        """A project's line of readers."""
        self.taking: Callable[[str], Line] = taking
        """A project's line of claims and pops."""


class Line:
    """The turns of one project, and its requests that wait for one."""

    def __init__(self, most_unread_bytes: int, least_bytes: int) -> None:
        self._most_unread_bytes = most_unread_bytes
        self._least_bytes = least_bytes
        self._unread_bytes = 0
        self._at_once_bytes = 0
        self._expected_bytes = least_bytes
        """Cost of recent answers. The next answer counts as this until it is made."""
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

    def note_cost(self, cost: int) -> None:
        """Raise the expected cost at once; lower it by half of the difference."""
        self._expected_bytes = max(self._least_bytes, cost, (self._expected_bytes + cost) // 2)

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

    def end(self, size: int, seconds: float = 0.0) -> None:
        """End the turn, after an answer of `size` bytes was made in `seconds` of the event loop."""
        cost = max(size, int(seconds * BYTES_PER_SECOND))
        self._line.note_cost(cost)
        if cost > LARGE_BYTES:
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


class Metered(Generic[T]):
    """An awaitable, and how long it keeps the event loop busy: the time in which it waits does not count."""

    __slots__ = ("_awaitable", "seconds")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._awaitable = awaitable
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, None, T]:
        steps = self._awaitable.__await__()
        go_on = step = partial(next, steps)
        while True:
            began = perf_counter()
            try:
                waits_for = step()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.seconds += perf_counter() - began
            try:
                yield waits_for
                step = go_on
            except BaseException as error:  # A cancellation, for example: the awaitable gets it.
                step = partial(steps.throw, error)
