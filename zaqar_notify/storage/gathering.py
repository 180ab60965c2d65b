"""When a group of writes begins: at once, or when the callers that were just answered are back.

Callers tend to write again at once. A group that begins without them leaves two halves of the callers
taking turns at waiting for the disk (docs/decisions/0001).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

FEWEST_SKIPS, MOST_SKIPS = 16, 1024
"""Groups that are not waited for after most of the callers did not come back in time."""


class Gathering:
    """The rule for all groups of one store, whatever they write. Belongs to the running loop.

    A group that begins while callers are expected back waits for them, a moment at most. One caller
    alone is expected by nobody; nor does the first write after a pause wait.
    """

    def __init__(self, *, seconds: float, enough: int) -> None:
        """Set the limits.

        Args:
            seconds: The longest wait. Event loops' timers know whole milliseconds only.
            enough: A group of so many waits for no more: the commit's cost is spread thin by then.
        """
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._enough = enough
        self._away = 0
        self._away_until = 0.0
        self._expected = 0
        self._begins: list[Callable[[], object]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._skips = 0
        self._next_skips = FEWEST_SKIPS

    def answered(self, count: int, *, waiting: int) -> None:
        """So many callers were just answered, and so many wait for the next group already."""
        self._forget_the_late()
        self._away = max(0, min(self._away + count, self._enough - waiting))
        self._away_until = self._loop.time() + self._seconds

    def came(self) -> None:
        """A caller has come: one of those that are expected, as far as anybody can tell."""
        if not self._away:
            return
        self._away -= 1
        if not self._away and self._timer is not None:
            self._timer.cancel()
            self._end()

    def begin(self, group: Callable[[], object]) -> None:
        """Call `group` soon, or when the callers are back."""
        self._forget_the_late()
        if self._timer is not None:
            self._begins.append(group)
        elif self._away and not self._skips:
            self._expected = self._away
            self._begins.append(group)
            self._timer = self._loop.call_later(self._seconds, self._end)
        else:
            self._skips = max(0, self._skips - 1)
            self._loop.call_soon(group)

    def _end(self) -> None:
        self._timer = None
        if 2 * self._away <= self._expected:
            self._next_skips = FEWEST_SKIPS
        else:
            self._skips = self._next_skips
            self._next_skips = min(2 * self._next_skips, MOST_SKIPS)
        begins, self._begins = self._begins, []
        for group in begins:
            self._loop.call_soon(group)

    def _forget_the_late(self) -> None:
        if self._loop.time() >= self._away_until:
            self._away = 0
