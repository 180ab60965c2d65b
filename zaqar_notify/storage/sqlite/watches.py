"""Watches: callers that wait for a queue. Only this process writes to the store, so it sees all changes.

Messages also become visible with time, at a claim's expiry or a delay's end. A timer wakes the watches
at the earliest such instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.watching import SOONEST_SECONDS, Watched, Watches

LATEST_SECONDS = 3600.0


class SQLiteWatches(Watches[Watched]):
    """The watches of this process.

    Args:
        next_due: The instant at which the queue's next held message falls due.
        now: The present instant, by the clock that callers go by.
    """

    def __init__(
        self, next_due: Callable[[QueueRef], datetime | None], now: Callable[[], datetime]
    ) -> None:
        super().__init__()
        self._next_due = next_due
        self._now = now

    def visible(self, ref: QueueRef, count: int) -> None:
        """`count` messages of the queue have become visible."""
        watched = self._watched.get(ref)
        if watched is not None:
            watched.wake(count)

    def held(self, ref: QueueRef) -> None:
        """Messages of the queue are held now, or until another instant."""
        watched = self._watched.get(ref)
        if watched is not None and watched.timer is not None:
            self._set_timer(watched)

    def _new(self, ref: QueueRef) -> Watched:
        return Watched(ref)

    def _begin(self, watched: Watched) -> None:
        if watched.timer is None:
            self._set_timer(watched)

    def _set_timer(self, watched: Watched) -> None:
        """Wake the queue's watches when its next held message falls due."""
        watched.stop_timer()
        due_at = self._next_due(watched.ref)
        wait = LATEST_SECONDS if due_at is None else (due_at - self._now()).total_seconds()
        loop = asyncio.get_running_loop()
        watched.timer = loop.call_later(
            min(max(wait, SOONEST_SECONDS), LATEST_SECONDS), self._due, watched
        )

    def _due(self, watched: Watched) -> None:
        watched.timer = None
        # The woken caller frees the due messages, which wakes a caller for each of them.
        watched.wake(1)
        if watched.is_waited_for:
            self._set_timer(watched)
