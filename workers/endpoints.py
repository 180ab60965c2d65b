"""How one receiver has been doing, and how many tries at once that speaks for."""

from __future__ import annotations

from collections import deque
from typing import Protocol

SILENCE_SECONDS = 0.5
"""How long nothing may end before it says something of the endpoint: a busy worker itself may stand
still for a quarter of a second at the beginning of a burst."""

FIRST_RUNS = 4
"""Runs at once of an endpoint that was never tried, or has just recovered: should it hang, it keeps few
lanes busy until its time is over."""


class Run(Protocol):
    """Work for one endpoint, not started yet."""

    endpoint: Endpoint
    offered_at: float
    insists: bool
    """Waits for its turn however long that takes."""

    async def go(self) -> None:
        """Do it. Calls `endpoint.tried` after each try."""


class Endpoint:
    """How one receiver has been doing. Times are of a monotonic clock, seconds."""

    __slots__ = (
        "_breaker_failures",
        "_limit",
        "_proven",
        "booked_until",
        "failing_since",
        "failures",
        "is_queued",
        "pace_seconds",
        "progress_at",
        "project",
        "running",
        "wait_until",
        "waiting",
    )

    def __init__(self, project: str, limit: int, breaker_failures: int) -> None:
        self.project = project
        self._limit = limit
        self._breaker_failures = breaker_failures
        self.failures = 0
        """Tries that failed in a row."""
        self.failing_since = 0.0
        """When the first of them ended."""
        self._proven = min(FIRST_RUNS, limit)
        """How many runs at once its successes speak for."""
        self.running = 0
        self.waiting: deque[Run] = deque()
        self.is_queued = False
        self.pace_seconds = 0.0
        """What a try takes lately. About half of it is the last tries', as many as may run together: a
        moment's stall makes all of those slow."""
        self.progress_at = 0.0
        """When a try ended, or began on the idle endpoint."""
        self.booked_until = 0.0
        """The turn that the last run turned away was told to come back for."""
        self.wait_until = 0.0
        """When the pause ends that the receiver asked for."""

    @property
    def is_suspect(self) -> bool:
        return self.failures >= self._breaker_failures

    @property
    def limit(self) -> int:
        return 1 if self.is_suspect else self._proven

    @property
    def has_room(self) -> bool:
        return self.running < self.limit

    def is_paused(self, now: float) -> bool:
        return now < self.wait_until

    def pause(self, seconds: float, now: float) -> None:
        """Start no run for so long: the receiver asked for it."""
        self.wait_until = max(self.wait_until, now + seconds)

    def tried(self, *, succeeded: bool, seconds: float, now: float) -> None:
        """Learn from a try that took `seconds`."""
        self.progress_at = now
        most_together = 1 if self.is_suspect else self._limit
        self.pace_seconds += (seconds - self.pace_seconds) / (1 + most_together)
        if not succeeded:
            if not self.failures:
                self.failing_since = now
            self.failures += 1
            return
        if self.is_suspect:
            self.booked_until = 0.0
            self._proven = min(FIRST_RUNS, self._limit)
        elif self._proven < self._limit:
            self._proven += 1
        self.failures = 0

    def turn_seconds(self, now: float) -> float:
        """Between one lane's end and the next, as far as can be told; grows while nothing ends."""
        silence = now - self.progress_at if self.running else 0.0
        slowest = (
            max(self.pace_seconds, silence) if silence > SILENCE_SECONDS else self.pace_seconds
        )
        return slowest / self.limit
