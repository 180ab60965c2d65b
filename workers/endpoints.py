"""How receivers have been doing, and how many attempts at once that speaks for.

An *endpoint* stands for all subscriptions of a project with one subscriber URI. It has a *window*: so many batches at
once, `FIRST_BATCHES` at first, and one more with each success. When the receiver is overloaded (no answer in
time, 429, 502, 503, 504) the window is halved, and from then on grows by one each time that a whole window has succeeded. After
some failures in a row the endpoint is *suspect*: its breaker is open. It gets no attempt for a while, and then one at a
time until one succeeds. One that asked for a pause gets no batch until that has passed.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from datetime import UTC, datetime

from zaqar_notify.clock import Clock
from zaqar_notify.delivery.endpoint_states import EndpointState, EndpointStates, endpoint_key

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


LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Endpoint:
    """How one receiver has been doing. Times without a date are of a monotonic clock, seconds."""

    __slots__ = (
        "_breaker_failures",
        "_cut_at",
        "_limit",
        "_slow_from",
        "_window",
        "booked_until",
        "failing_since",
        "failures",
        "is_queued",
        "is_suspect",
        "key",
        "open_until",
        "pace_seconds",
        "progress_at",
        "project",
        "running",
        "succeeded_at",
        "wait_until",
        "waiting",
    )

    def __init__(self, project: str, key: str, limit: int, breaker_failures: int) -> None:
        self.project = project
        self.key = key
        """As `endpoint_key`."""
        self._limit = limit
        self._breaker_failures = breaker_failures
        self.failures = 0
        """Tries that failed in a row."""
        self.is_suspect = False
        self.open_until = LONG_AGO
        """A suspect one is left alone until then."""
        self.failing_since = 0.0
        """When the first of them ended."""
        self.succeeded_at = 0.0
        self._window = float(min(FIRST_BATCHES, limit))
        """How many batches at once its successes speak for."""
        self._slow_from = float(limit)
        """From here on the window grows slowly."""
        self._cut_at = 0.0
        """When the window was halved."""
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
        return 1 if self.is_suspect else int(self._window)

    @property
    def has_room(self) -> bool:
        return self.running < (1 if self.is_suspect else int(self._window))

    def seconds_open(self, at: datetime) -> float:
        """For how long no attempt is to be made, since it fails."""
        return (self.open_until - at).total_seconds() if self.is_suspect else 0.0

    def open(self, until: datetime) -> None:
        """Have it left alone until then, and tried one at a time after that."""
        self.is_suspect = True
        self.open_until = until

    def close(self) -> None:
        """Let it be tried as one that has just recovered."""
        if self.is_suspect:
            self.booked_until = 0.0
            self._window = float(min(FIRST_BATCHES, self._limit))
        self.failures = 0
        self.is_suspect = False

    def learn(self, state: EndpointState | None, at: datetime, now: float) -> None:
        """Heed what all processes know. A success of our own after it failed elsewhere outweighs that."""
        if state is None:
            self.close()
            return
        if state.paused_until is not None:
            self.wait_until = max(self.wait_until, now + (state.paused_until - at).total_seconds())
        if state.open_until is None or state.opened_at is None:
            self.close()
        elif self.succeeded_at <= now - (at - state.opened_at).total_seconds():
            self.open(state.open_until)

    def is_paused(self, now: float) -> bool:
        return now < self.wait_until

    def pause(self, seconds: float, now: float) -> None:
        """Start no batch for so long: the receiver asked for it."""
        self.wait_until = max(self.wait_until, now + seconds)

    def tried(
        self, *, succeeded: bool, seconds: float, now: float, is_overloaded: bool = False
    ) -> None:
        """Learn from a try that took `seconds`."""
        self.progress_at = now
        most_together = 1 if self.is_suspect else self._limit
        self.pace_seconds += (seconds - self.pace_seconds) / (1 + most_together)
        if not succeeded:
            if not self.failures:
                self.failing_since = now
            self.failures += 1
            self.is_suspect = self.is_suspect or self.failures >= self._breaker_failures
            if is_overloaded and now - seconds >= self._cut_at:
                self._halve(now)
            return
        self.succeeded_at = now
        if self.is_suspect:
            self.close()
        elif self._window < self._limit:
            growth = 1.0 if self._window < self._slow_from else 1 / self._window
            self._window = min(self._window + growth, self._limit)
        self.failures = 0

    def _halve(self, now: float) -> None:
        """Once for all tries that were under way together."""
        self._cut_at = now
        self._window = self._slow_from = max(1.0, self._window / 2)

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

    def __init__(
        self, *, limit: int, breaker_failures: int, states: EndpointStates, clock: Clock
    ) -> None:
        """`limit`: batches at once of one endpoint, at most. `states`: what all processes know."""
        self._limit = limit
        self._breaker_failures = breaker_failures
        self._states = states
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], Endpoint] = OrderedDict()
        self._by_key: dict[str, Endpoint] = {}

    def of(self, project: str, subscriber: str) -> Endpoint:
        name = (project, subscriber)
        endpoint = self._known.get(name)
        if endpoint is None:
            key = endpoint_key(project, subscriber)
            endpoint = Endpoint(project, key, self._limit, self._breaker_failures)
            self._known[name] = self._by_key[key] = endpoint
            if self._states.of_key(key) is not None:
                self.learn(key)
            self._forget_one()
        else:
            self._known.move_to_end(name)
        return endpoint

    def learn(self, key: str) -> None:
        """Have an endpoint heed what all processes know, if it is known here."""
        endpoint = self._by_key.get(key)
        if endpoint is not None:
            endpoint.learn(self._states.of_key(key), self._clock.now(), time.monotonic())

    def _forget_one(self) -> None:
        """Forget the endpoint asked for longest ago when there are too many, unless it is busy."""
        if len(self._known) <= MAX_ENDPOINTS:
            return
        name, oldest = next(iter(self._known.items()))
        if oldest.running or oldest.waiting:
            self._known.move_to_end(name)
        else:
            del self._known[name]
            del self._by_key[oldest.key]
