"""The watches of each queue in this process, and the order in which they are woken.

Each driver decides when to wake them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import Watch

SOONEST_SECONDS = 0.02
"""The shortest wait. A message may stay due without being claimable; its watchers must not spin."""


STOPPED_SECONDS = 0.05
"""A wait on a store that is closing: who looks again and again leaves the event loop to others meanwhile."""


class Watched:
    """One queue's watches, and the timer of its next due message.

    Of the consumers, those that wait come last, in the order they began to.
    """

    def __init__(self, ref: QueueRef) -> None:
        self.ref = ref
        self.watches: dict[QueueWatch, None] = {}
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_waited_for(self) -> bool:
        return any(watch.is_waiting for watch in self.watches)

    def wake(self, consumers: int) -> None:
        """Wake every observer, and so many consumers that have no wake yet."""
        for watch in self.watches:
            if not watch.exclusive:
                watch.wake()
        self.wake_consumers(consumers)

    def wake_consumers(self, count: int) -> None:
        """Wake waiting consumers, the longest waiting first, and then consumers that are reading.

        A consumer that is reading may have read too early, so it reads again.
        """
        idle = [watch for watch in self.watches if watch.exclusive and not watch.is_woken]
        for watch in sorted(idle, key=lambda one: not one.is_waiting)[:count]:
            watch.wake()

    def to_the_end_of_the_line(self, watch: QueueWatch) -> None:
        if watch in self.watches:
            del self.watches[watch]
            self.watches[watch] = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


W = TypeVar("W", bound=Watched)


class Watches(ABC, Generic[W]):
    """The watches of this process. A queue has an entry only while it has a watch."""

    def __init__(self) -> None:
        self._watched: dict[QueueRef, W] = {}
        self.stopped = False

    @abstractmethod
    def _new(self, ref: QueueRef) -> W:
        """An entry for a queue that had no watch so far."""

    @abstractmethod
    def _begin(self, watched: W) -> None:
        """A watch begins to wait for the queue."""

    def watch(self, ref: QueueRef, *, exclusive: bool) -> Watch:
        watched = self._watched.get(ref)
        if watched is None:
            watched = self._watched[ref] = self._new(ref)
        return QueueWatch(self, watched, exclusive=exclusive, begin=partial(self._begin, watched))

    def stop(self) -> None:
        """Wake every watch for good."""
        self.stopped = True
        for watched in self._watched.values():
            watched.stop_timer()
            for watch in watched.watches:
                watch.wake()

    def forget(self, watched: Watched) -> None:
        """Remove the entry of a queue that has no watch any more."""
        watched.stop_timer()
        if self._watched.get(watched.ref) is watched:
            del self._watched[watched.ref]


class _AllWatches(Protocol):
    """The part of `Watches` that a single watch uses."""

    stopped: bool

    def forget(self, watched: Watched) -> None: ...


class QueueWatch(Watch):
    """One watch. `begin` is called whenever it begins to wait."""

    def __init__(
        self, all_: _AllWatches, watched: Watched, *, exclusive: bool, begin: Callable[[], None]
    ) -> None:
        self.exclusive = exclusive
        self.is_woken = False
        self._was_woken = False
        self._all = all_
        self._watched = watched
        self._begin = begin
        self._waiter: asyncio.Future[None] | None = None
        watched.watches[self] = None

    @property
    def is_waiting(self) -> bool:
        return self._waiter is not None

    async def changed(self, *, timeout_seconds: float) -> bool:
        if self._all.stopped:
            await asyncio.sleep(STOPPED_SECONDS)
        elif not self.is_woken:
            await self._wait(timeout_seconds)
        woken, self.is_woken = self.is_woken, False
        self._was_woken = self._was_woken or woken
        return woken and not self._all.stopped

    async def _wait(self, timeout_seconds: float) -> None:
        self._watched.to_the_end_of_the_line(self)
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._begin()
        timeout = loop.call_later(timeout_seconds, self._stop_waiting)
        try:
            await self._waiter
        finally:
            timeout.cancel()
            self._waiter = None

    def wake(self) -> None:
        self.is_woken = True
        self._stop_waiting()

    def close(self) -> None:
        watches = self._watched.watches
        if self not in watches:
            return
        del watches[self]
        if not watches:
            self._all.forget(self._watched)
        elif self.exclusive and (self.is_woken or self._was_woken):
            # There may be more than this consumer took, or it went before it looked.
            self._watched.wake_consumers(1)

    def _stop_waiting(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
