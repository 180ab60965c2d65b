"""Estimates of what projects have stored: measured now and then, and added to in memory between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from zaqar_notify.clock import running_seconds
from zaqar_notify.errors import StorageUnavailable

Key = TypeVar("Key", bound=Hashable)

PART_OF_ROOM = 32
"""An estimate is measured again once this part of the room below the limit was added, while posts go on; once twice as
much was added, they wait for the measure."""
LEAST_PART_OF_LIMIT = 512
"""The same, of the limit, when there is little room."""
PAUSE_PER_MEASURE = 20
"""The pause between two measures is so many times as long as the last one took: they cost little."""
PATIENCE_SECONDS = 1.0
"""For so long a caller waits for a measure."""
MOST_ESTIMATES = 10_000


class _Estimate:
    """Of one key. `added` was stored since the measure began, and `under_way` is being stored now."""

    __slots__ = ("added", "measured", "next_at", "task", "under_way")

    def __init__(self) -> None:
        self.measured: int | None = None
        self.added = 0
        self.under_way = 0
        self.next_at = float("-inf")
        self.task: asyncio.Task[None] | None = None

    @property
    def used(self) -> int:
        return (self.measured or 0) + self.added + self.under_way

    def steps(self, limit: int) -> int:
        """How often the amount was added after which to measure again."""
        room = limit - (self.measured or 0)
        return self.added // max(room // PART_OF_ROOM, limit // LEAST_PART_OF_LIMIT, 1)


class Estimates(Generic[Key]):
    """How much each project, or each queue, has of one thing, as far as this process knows.

    An estimate is never below what this process has stored itself since the last measure. Writes of other
    processes, and removals, show in the next measure:

    - Of several processes, each measures again before it has added a sixteenth of the limit. So together
      they pass the limit by a sixteenth of it at most for each further process.
    - Before anything is refused, the estimate is measured again.

    A measure that takes longer than 50 ms has a pause of more than a second after it. Nothing waits for the
    end of such a pause: so long the estimate goes on as it is.
    """

    def __init__(
        self,
        measure: Callable[[Key], Awaitable[int]],
        *,
        now: Callable[[], float] = running_seconds,
    ) -> None:
        """`measure` raises StorageUnavailable when the store gives no answer: then the estimate goes on."""
        self._measure = measure
        self._now = now
        self._estimates: dict[Key, _Estimate] = {}

    async def excess(self, key: Key, amount: int, limit: int) -> int | None:
        """Count `amount` as being stored, if there is room for it; the caller must then call `settle`.

        Returns:
            None; or if there is no room, the amount in use.
        """
        estimate = self._estimate(key)
        if estimate.measured is None and self._now() >= estimate.next_at:
            await asyncio.wait((self._task(key, estimate),), timeout=PATIENCE_SECONDS)
        elif steps := estimate.steps(limit):
            if steps > 1:
                await self._look_again(key, estimate)
            elif self._now() >= estimate.next_at:
                self._task(key, estimate)
        if estimate.used + amount > limit:
            await self._look_again(key, estimate)
            if estimate.used + amount > limit:
                return estimate.used
        estimate.under_way += amount
        return None

    async def look(self, key: Key) -> int | None:
        """The amount in use; None if it is not known, because a measure takes long."""
        estimate = self._estimate(key)
        await self._look_again(key, estimate)
        return None if estimate.measured is None else estimate.used

    def settle(self, key: Key, amount: int) -> None:
        """The amount is stored by now. If that failed, the next measure shows it."""
        estimate = self._estimates.get(key)
        if estimate is not None:
            estimate.under_way = max(0, estimate.under_way - amount)
            estimate.added += amount

    def _estimate(self, key: Key) -> _Estimate:
        estimate = self._estimates.pop(key, None) or _Estimate()
        # Last, so that the one that was asked for longest ago is forgotten first.
        self._estimates[key] = estimate
        if len(self._estimates) > MOST_ESTIMATES:
            del self._estimates[next(iter(self._estimates))]
        return estimate

    async def _look_again(self, key: Key, estimate: _Estimate) -> None:
        """Wait for a measure that begins from now on, if that is soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._measured(key, estimate)

    async def _measured(self, key: Key, estimate: _Estimate) -> None:
        if estimate.task is not None:
            await asyncio.wait((estimate.task,))
        pause = estimate.next_at - self._now()
        if pause > PATIENCE_SECONDS:
            return
        if estimate.task is None and pause > 0:
            await asyncio.sleep(pause)
        await asyncio.wait((self._task(key, estimate),))

    def _task(self, key: Key, estimate: _Estimate) -> asyncio.Task[None]:
        if estimate.task is None:
            estimate.task = asyncio.create_task(self._update(key, estimate))
        return estimate.task

    async def _update(self, key: Key, estimate: _Estimate) -> None:
        began = self._now()
        added_before = estimate.added
        try:
            measured = await self._measure(key)
        except StorageUnavailable:
            estimate.next_at = self._now() + PATIENCE_SECONDS
        else:
            ended = self._now()
            estimate.measured = measured
            estimate.added -= added_before
            estimate.next_at = ended + PAUSE_PER_MEASURE * (ended - began)
        finally:
            estimate.task = None
