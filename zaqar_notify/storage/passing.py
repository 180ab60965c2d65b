"""The places at which looks begin that pass over the messages of some clients, or those that can't be decrypted.

There may be a hundred thousand such messages in the queue, and each look would pass over all of
them. So after a look that took long, other looks begin where it found a message, for a while. An older
message that is freed in this time is found by the next look that begins at the head of the queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

LONG_SECONDS = 0.005
PART = 4
"""Looks from the head take a fifth of the time at most."""

MOST_KNOWN = 100
"""Queues and sets of clients, until all are forgotten."""

Position = TypeVar("Position")
Key = tuple[Hashable, frozenset[str]]


class Passing(Generic[Position]):
    """Of one process: positions of queues, each for a set of clients."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Key, tuple[Position, float]] = {}

    def begin(self, queue: Hashable, clients: Collection[str]) -> Look[Position]:
        key = (queue, frozenset(clients))
        position, until = self._known.get(key, (None, 0.0))
        now = self._clock()
        return Look(self, key, position if now < until else None, now)

    def note(self, look: Look[Position], found: Position | None) -> None:
        now = self._clock()
        took = now - look.began
        if found is None:
            self._known.pop(look.key, None)
        elif look.after is None and took >= LONG_SECONDS:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[look.key] = (found, now + PART * took)


class Look(Generic[Position]):
    """One look: it begins behind `after`, or at the head of the queue when that is None."""

    def __init__(
        self, passing: Passing[Position], key: Key, after: Position | None, began: float
    ) -> None:
        self._passing = passing
        self.key = key
        self.after = after
        self.began = began

    def end(self, found: Position | None) -> None:
        """Say where the first message was that it found."""
        self._passing.note(self, found)
