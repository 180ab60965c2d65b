"""How receivers have been doing, and how many attempts at once that speaks for.

An *endpoint* stands for all subscriptions of a project with one subscriber URI. An endpoint that has not been
tried gets `FIRST_BATCHES` at a time, and one more with each success. After some failures in a row it is
*suspect*: it gets one batch at a time until one succeeds. One that asked for a pause gets no batch until that
has passed.
"""

from __future__ import annotations

import math
from collections import OrderedDict

PATIENCE_SECONDS = 1.0
"""How long a batch waits in memory for a slot."""

LONGEST_DEFERRAL_SECONDS = 60
"""The longest time until a batch that was turned away is looked at again: a recovered endpoint waits no longer."""

MAX_ENDPOINTS = 10_000
"""Endpoints whose state is remembered, of some 300 bytes each; idle ones are forgotten first."""

SILENCE_SECONDS = 0.5
"""How long nothing may end before it says something of the endpoint: a busy worker itself may stand
still for a quarter of a second at the beginning of a burst."""

FIRST_BATCHES = 4
"""Runs at once of an endpoint that was never tried, or has just recovered: should it hang, it keeps few
slots busy until its time is over."""


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
        "is_suspect",
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
        self.is_suspect = False
        self.failing_since = 0.0
        """When the first of them ended."""
        self._proven = min(FIRST_BATCHES, limit)
        """How many batches at once its successes speak for."""
        self.running = 0
        self.waiting = 0
        """Runs that wait for a slot."""
        self.is_queued = False
        self.pace_seconds = 0.0
        """Seconds that an attempt takes lately. About half of it is the last attempts', as many as may run together: a
        moment's stall makes all of those slow."""
        self.progress_at = 0.0
        """When a try ended, or began on the idle endpoint."""
        self.booked_until = 0.0
        """The turn that the last batch turned away was told to come back for."""
        self.wait_until = 0.0
        """When the pause ends that the receiver asked for."""

    @property
    def limit(self) -> int:
        return 1 if self.is_suspect else self._proven

    @property
    def has_room(self) -> bool:
        return self.running < (1 if self.is_suspect else self._proven)

    def is_paused(self, now: float) -> bool:
        return now < self.wait_until

    def pause(self, seconds: float, now: float) -> None:
        """Start no batch for so long: the receiver asked for it."""
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
            self.is_suspect = self.failures >= self._breaker_failures
            return
        if self.is_suspect:
            self.booked_until = 0.0
            self._proven = min(FIRST_BATCHES, self._limit)
        elif self._proven < self._limit:
            self._proven += 1
        self.failures = 0
        self.is_suspect = False

    def turn_seconds(self, now: float) -> float:
        """Between one batch's end and the next, as far as can be told; grows while nothing ends."""
        silence = now - self.progress_at if self.running else 0.0
        slowest = (
            max(self.pace_seconds, silence) if silence > SILENCE_SECONDS else self.pace_seconds
        )
        return slowest / self.limit

    def admits(self, now: float) -> bool:
        """Whether a batch given now can be expected to start soon."""
        if self.is_paused(now):
            return False
        if not self.waiting and self.has_room:
            return True
        if self.is_suspect:
            return False  # One stands for all of them.
        return self.turn_seconds(now) * (self.waiting + 1) <= PATIENCE_SECONDS

    def book_turn(self, now: float) -> int | None:
        """In how many seconds a batch that was turned away should come back: 1 to 60, after a pause.

        Each gets a turn of its own at the pace of the endpoint. None: that would be in more than a
        minute, or the endpoint fails. Coming back again and again would cost more than to be fetched.
        """
        if self.is_suspect:
            return None
        begin = max(now, self.wait_until)
        turn = max(begin, now + 1, self.booked_until)
        if turn - begin >= LONGEST_DEFERRAL_SECONDS:
            return None
        self.booked_until = turn + self.turn_seconds(now)
        return math.ceil(turn - now)


class Endpoints:
    """The endpoints of one process."""

    def __init__(self, *, limit: int, breaker_failures: int) -> None:
        """`limit`: batches at once of one endpoint, at most."""
        self._limit = limit
        self._breaker_failures = breaker_failures
        self._known: OrderedDict[tuple[str, str], Endpoint] = OrderedDict()

    def of(self, project: str, subscriber: str) -> Endpoint:
        key = (project, subscriber)
        endpoint = self._known.get(key)
        if endpoint is None:
            endpoint = self._known[key] = Endpoint(project, self._limit, self._breaker_failures)
            self._forget_one()
        else:
            self._known.move_to_end(key)
        return endpoint

    def _forget_one(self) -> None:
        """Forget the endpoint asked for longest ago when there are too many, unless it is busy."""
        if len(self._known) <= MAX_ENDPOINTS:
            return
        key, oldest = next(iter(self._known.items()))
        if oldest.running or oldest.waiting:
            self._known.move_to_end(key)
        else:
            del self._known[key]
