"""When a batch of writes starts: at once, or when the callers that were just answered are back.

Callers tend to write again at once. A batch that starts without them splits the callers into two halves,
which take turns at waiting for the disk (docs/decisions/0001).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

FEWEST_SKIPS, MOST_SKIPS = 16, 1024
"""Batches that start without a delay after most of the callers did not come back in time."""


class BatchDelay:
    """The rule for all batches of one store, whatever they write. Belongs to the running loop.

    A batch that could start while callers are expected back waits for them, a moment at most. A lone
    caller never waits, nor does the first write after a pause.
    """

    def __init__(self, *, seconds: float, enough: int) -> None:
        """Set the limits.

        Args:
            seconds: The longest wait. Event loops' timers know whole milliseconds only.
            enough: A batch of this size starts at once: the commit's cost is spread thin by then.
        """
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._enough = enough
        self._away = 0
        self._away_until = 0.0
        self._expected = 0
        self._starts: list[Callable[[], object]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._skips = 0
        self._next_skips = FEWEST_SKIPS

    def answered(self, count: int, *, waiting: int) -> None:
        """A batch ended: `count` callers were answered, and `waiting` are in the next batch already."""
        self._forget_the_late()
        self._away = max(0, min(self._away + count, self._enough - waiting))
        self._away_until = self._loop.time() + self._seconds

    def arrived(self) -> None:
        """A caller sent a write. It counts as one of the expected callers."""
        if not self._away:
            return
        self._away -= 1
        if not self._away and self._timer is not None:
            self._timer.cancel()
            self._start_all()

    def start(self, batch: Callable[[], object]) -> None:
        """Call `batch` soon, or when the expected callers are back."""
        self._forget_the_late()
        if self._timer is not None:
            self._starts.append(batch)
        elif self._away and not self._skips:
            self._expected = self._away
            self._starts.append(batch)
            self._timer = self._loop.call_later(self._seconds, self._start_all)
        else:
            self._skips = max(0, self._skips - 1)
            self._loop.call_soon(batch)

    def _start_all(self) -> None:
        self._timer = None
        if 2 * self._away <= self._expected:
            self._next_skips = FEWEST_SKIPS
        else:
            self._skips = self._next_skips
            self._next_skips = min(2 * self._next_skips, MOST_SKIPS)
        starts, self._starts = self._starts, []
        for batch in starts:
            self._loop.call_soon(batch)

    def _forget_the_late(self) -> None:
        if self._loop.time() >= self._away_until:
            self._away = 0
