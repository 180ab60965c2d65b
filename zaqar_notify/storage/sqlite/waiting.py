"""Who waits for which queue, inside this process.

A queue has an entry only while somebody watches it. Messages that become visible with time (a
claim's expiry, a delay's end) are met by a timer at the earliest such instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import Watch

SOONEST_SECONDS = 0.02
"""So that a message that stays due (nobody may have it) doesn't keep its watchers busy."""
LATEST_SECONDS = 3600.0


class Waiting:
    def __init__(self, next_due: Callable[[QueueRef], datetime | None]) -> None:
        self._next_due = next_due
        self._watched: dict[QueueRef, _Watched] = {}
        self.stopped = False

    def watch(self, ref: QueueRef, *, exclusive: bool) -> Watch:
        watched = self._watched.get(ref)
        if watched is None:
            watched = self._watched[ref] = _Watched(ref)
        return _Watch(self, watched, exclusive)

    def visible(self, ref: QueueRef) -> None:
        """Messages of the queue have become visible, or may have."""
        watched = self._watched.get(ref)
        if watched is not None:
            watched.wake()

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
        wait = LATEST_SECONDS if due_at is None else (due_at - datetime.now(UTC)).total_seconds()
        loop = asyncio.get_running_loop()
        watched.timer = loop.call_later(
            min(max(wait, SOONEST_SECONDS), LATEST_SECONDS), self._due, watched
        )

    def _due(self, watched: _Watched) -> None:
        watched.timer = None
        watched.wake()
        if any(watch.is_waiting for watch in watched.watches):
            self.set_timer(watched)

    def forget(self, watched: _Watched) -> None:
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        self._watched.pop(watched.ref, None)


class _Watched:
    """One queue's watches, in the order they were opened, and the timer of its next due message."""

    def __init__(self, ref: QueueRef) -> None:
        self.ref = ref
        self.watches: dict[_Watch, None] = {}
        self.timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Wake every observer, and the first consumer that has no wake yet."""
        consumer_woken = False
        for watch in self.watches:
            if not watch.exclusive:
                watch.nudge()
            elif not consumer_woken and not watch.is_woken:
                watch.nudge()
                consumer_woken = True

    def wake_consumer(self) -> None:
        for watch in self.watches:
            if watch.exclusive and not watch.is_woken:
                watch.nudge()
                return


class _Watch(Watch):
    def __init__(self, waiting: Waiting, watched: _Watched, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.is_woken = False
        self._was_woken = False
        self._waiting = waiting
        self._watched = watched
        self._waiter: asyncio.Future[None] | None = None
        watched.watches[self] = None

    @property
    def is_waiting(self) -> bool:
        return self._waiter is not None

    async def changed(self, *, timeout_seconds: float) -> bool:
        if not self.is_woken and not self._waiting.stopped:
            if self._watched.timer is None:
                self._waiting.set_timer(self._watched)
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            handle = loop.call_later(timeout_seconds, self._stop_waiting)
            try:
                await self._waiter
            finally:
                handle.cancel()
                self._waiter = None
        woken, self.is_woken = self.is_woken, False
        self._was_woken = self._was_woken or woken
        return woken and not self._waiting.stopped

    def nudge(self) -> None:
        self.is_woken = True
        self._stop_waiting()

    def close(self) -> None:
        if self._watched.watches.pop(self, self) is self:
            return
        if not self._watched.watches:
            self._waiting.forget(self._watched)
        elif self.exclusive and (self.is_woken or self._was_woken):
            # There may be more than this consumer took, or it went before it looked.
            self._watched.wake_consumer()

    def _stop_waiting(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
