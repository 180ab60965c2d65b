"""Rates of projects: token buckets in memory that the processes of one API share."""

from __future__ import annotations

import mmap
from collections.abc import Callable

from zaqar_notify.clock import running_seconds

PLACES = 1 << 14
"""Places of a table. A project has one while its bucket is not full. Clients can make up projects, so their number
is bounded."""
PLACES_OF_PROJECT = 8
"""Where a project's bucket can be. If all are taken, the bucket gives way that is full again first."""
ROUNDING_SECONDS = 1e-6
"""The sum of many small times is off by less."""


class Buckets:
    """A token bucket for each project. A full one holds the tokens of `burst_seconds`.

    A bucket is the instant at which it will be full again. So a project that is not known has a full
    bucket. A request may take more tokens than there are, if there are any; the next one waits until the debt is
    paid. So a post with many messages is never refused for ever.

    Processes that are forked after this was made share the buckets. They take no lock: if two take tokens of one
    project within the same microsecond, one of them may take them for nothing.
    """

    def __init__(self, *, now: Callable[[], float] = running_seconds) -> None:
        """`now` is the same clock in all processes of a host."""
        self._now = now
        memory = memoryview(mmap.mmap(-1, 2 * 8 * PLACES))
        self._projects = memory[: 8 * PLACES].cast("q")
        """Hashes of projects."""
        self._full_at = memory[8 * PLACES :].cast("d")

    def take(self, project: str, tokens: int, *, per_second: int, burst_seconds: float) -> float:
        """Take tokens from the project's bucket.

        Returns:
            0, or if the bucket is empty and nothing was taken: the seconds until it has a token.
        """
        now = self._now()
        key = hash(project)
        place = key % PLACES
        if self._projects[place] != key:
            place = self._other_place(key, now)
        full_at = self._full_at[place]
        if full_at < now:
            full_at = now
        elif (wait := full_at - now - burst_seconds + 1 / per_second) > ROUNDING_SECONDS:
            return wait
        self._full_at[place] = full_at + tokens / per_second
        return 0.0

    def _other_place(self, project: int, now: float) -> int:
        """The place of a bucket that is not in its project's first one; a new bucket is full."""
        places = [(project + number) % PLACES for number in range(PLACES_OF_PROJECT)]
        for place in places:
            if self._projects[place] == project and self._full_at[place] > now:
                return place
        free = min(places, key=lambda place: self._full_at[place])
        self._projects[free] = project
        self._full_at[free] = 0.0
        return free


class Rates:
    """The buckets of requests and of messages. Made before the processes that share them."""

    def __init__(self) -> None:
        self.requests = Buckets()
        self.messages = Buckets()
