"""Who waits for which queue, inside this process.

A queue has an entry only while somebody watches it. Messages that become visible with time (a
claim's expiry, a delay's end) are met by a timer at the earliest such instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import Watch

SOONEST_SECONDS = 0.02
"""So that a message that stays due (nobody may have it) doesn't keep its watchers busy."""
LATEST_SECONDS = 3600.0


class Waiting:
    """The watches of this process.

    Args:
        next_due: The instant at which the queue's next held message falls due.
        now: The present instant, by the clock that callers go by.
    """

    def __init__(
        self, next_due: Callable[[QueueRef], datetime | None], now: Callable[[], datetime]
    ) -> None:
        self._next_due = next_due
        self._now = now
        self._watched: dict[QueueRef, _Watched] = {}
        self.stopped = False

    def watch(self, ref: QueueRef, *, exclusive: bool) -> Watch:
        watched = self._watched.get(ref)
        if watched is None:
            watched = self._watched[ref] = _Watched(ref)
        return _Watch(self, watched, exclusive)

    def visible(self, ref: QueueRef, count: int) -> None:
        """So many messages of the queue have become visible."""
        watched = self._watched.get(ref)
        if watched is not None:
            watched.wake(count)

    def held(self, ref: QueueRef) -> None:
        """Messages of the queue are held now, or until another instant."""
        watched = self._watched.get(ref)
        if watched is not None and watched.timer is not None:
            self.set_timer(watched)

    def stop(self) -> None:
        """Wake every watch for good."""
        self.stopped = True
        for watched in self._watched.values():
            for watch in watched.watches:
                watch.nudge()

    def set_timer(self, watched: _Watched) -> None:
        """Wake the queue's watches when its next held message falls due."""
        if watched.timer is not None:
            watched.timer.cancel()
        due_at = self._next_due(watched.ref)
        wait = LATEST_SECONDS if due_at is None else (due_at - self._now()).total_seconds()
        loop = asyncio.get_running_loop()
        watched.timer = loop.call_later(
            min(max(wait, SOONEST_SECONDS), LATEST_SECONDS), self._due, watched
        )

    def _due(self, watched: _Watched) -> None:
        watched.timer = None
        # Whoever looks frees what is due, which wakes as many more as there is to be had.
        watched.wake(1)
        if any(watch.is_waiting for watch in watched.watches):
            self.set_timer(watched)

    def forget(self, watched: _Watched) -> None:
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        self._watched.pop(watched.ref, None)


class _Watched:
    """One queue's watches, and the timer of its next due message."""

    def __init__(self, ref: QueueRef) -> None:
        self.ref = ref
        self.watches: dict[_Watch, None] = {}
        """Those that wait come last, in the order they began to."""
        self.timer: asyncio.TimerHandle | None = None

    def wake(self, count: int) -> None:
        """Wake every observer, and so many consumers: those that wait longest, then those that look.

        A consumer that is just looking may have looked too early, so it is told to look again.
        """
        for watch in self.watches:
            if not watch.exclusive:
                watch.nudge()
        self._wake_consumers(count)

    def begin_to_wait(self, watch: _Watch) -> None:
        if watch in self.watches:
            self.watches[watch] = self.watches.pop(watch)

    def leave(self, watch: _Watch) -> bool:
        """Watch no longer; whether it had been watching."""
        if watch not in self.watches:
            return False
        del self.watches[watch]
        if watch.exclusive and (watch.is_woken or watch.was_woken):
            # There may be more than this consumer took, or it went before it looked.
            self._wake_consumers(1)
        return True

    def _wake_consumers(self, count: int) -> None:
        idle = [watch for watch in self.watches if watch.exclusive and not watch.is_woken]
        waiting = [watch for watch in idle if watch.is_waiting]
        looking = [watch for watch in idle if not watch.is_waiting]
        for watch in (waiting + looking)[:count]:
            watch.nudge()


class _Watch(Watch):
    def __init__(self, waiting: Waiting, watched: _Watched, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.is_woken = False
        self.was_woken = False
        self._waiting = waiting
        self._watched = watched
        self._waiter: asyncio.Future[None] | None = None
        watched.watches[self] = None

    @property
    def is_waiting(self) -> bool:
        return self._waiter is not None

    async def changed(self, *, timeout_seconds: float) -> bool:
        if not self.is_woken and not self._waiting.stopped:
            await self._wait(timeout_seconds)
        woken, self.is_woken = self.is_woken, False
        self.was_woken = self.was_woken or woken
        return woken and not self._waiting.stopped

    async def _wait(self, timeout_seconds: float) -> None:
        self._watched.begin_to_wait(self)
        if self._watched.timer is None:
            self._waiting.set_timer(self._watched)
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timeout = loop.call_later(timeout_seconds, self._stop_waiting)
        try:
            await self._waiter
        finally:
            timeout.cancel()
            self._waiter = None

    def nudge(self) -> None:
        self.is_woken = True
        self._stop_waiting()

    def close(self) -> None:
        if self._watched.leave(self) and not self._watched.watches:
            self._waiting.forget(self._watched)

    def _stop_waiting(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
