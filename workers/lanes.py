"""Tries under way at once: bounded in all, bounded per endpoint, fair between endpoints.

An *endpoint* is what a project's subscriptions with one subscriber URI share. A *run* is work for
one endpoint; a *lane* is a task that does one run after another, taking the endpoints in turn. So a
slow endpoint keeps few lanes busy, and what can't start soon is turned away: the caller writes it
to the store and comes back with it.

After some failures in a row an endpoint is *suspect*: it gets one run at a time until one succeeds,
and all suspects together have at most a quarter of the lanes. An endpoint that asked for a pause gets
no run until that has passed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Protocol, TypeAlias

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""How long a run waits in memory for a lane."""

SILENCE_SECONDS = 0.5
"""How long nothing may end before it says something of the endpoint: a busy worker itself may stand
still for a quarter of a second at the beginning of a burst."""

LONGEST_DEFERRAL_SECONDS = 60
"""Until what was turned away is looked at again, at most: a recovered endpoint waits no longer."""

MAX_ENDPOINTS = 10_000
"""Endpoints whose state is remembered, of some 300 bytes each; idle ones are forgotten first."""

Spawn: TypeAlias = Callable[[Coroutine[object, object, None]], object]


class Run(Protocol):
    """Work for one endpoint, not started yet."""

    endpoint: Endpoint
    offered_at: float

    async def go(self) -> None:
        """Do it. Calls `endpoint.tried` after each try."""


class Endpoint:
    """How one receiver has been doing. Times are of a monotonic clock, seconds."""

    __slots__ = (
        "_breaker_failures",
        "_failures",
        "_limit",
        "booked_until",
        "is_queued",
        "pace_seconds",
        "progress_at",
        "running",
        "wait_until",
        "waiting",
    )

    def __init__(self, limit: int, breaker_failures: int) -> None:
        self._limit = limit
        self._breaker_failures = breaker_failures
        self._failures = 0
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
        return self._failures >= self._breaker_failures

    @property
    def limit(self) -> int:
        return 1 if self.is_suspect else self._limit

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
        self.pace_seconds += (seconds - self.pace_seconds) / (1 + self.limit)
        if not succeeded:
            self._failures += 1
            return
        if self.is_suspect:
            self.booked_until = 0.0
        self._failures = 0

    def turn_seconds(self, now: float) -> float:
        """Between one lane's end and the next, as far as can be told; grows while nothing ends."""
        silence = now - self.progress_at if self.running else 0.0
        slowest = (
            max(self.pace_seconds, silence) if silence > SILENCE_SECONDS else self.pace_seconds
        )
        return slowest / self.limit


class Lanes:
    """The lanes of one process, started with `spawn` when there is work and ended when there is none."""

    def __init__(
        self,
        spawn: Spawn,
        *,
        total: int,
        per_endpoint: int,
        breaker_failures: int,
        random: Callable[[], float],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spawn = spawn
        self._total = total
        self._per_endpoint = per_endpoint
        self._breaker_failures = breaker_failures
        self._suspects_total = max(1, total // 4)
        self._random = random
        self._timer = timer
        self._endpoints: OrderedDict[tuple[str, str], Endpoint] = OrderedDict()
        # Endpoints with a run waiting and room for it, in turn.
        self._ready: deque[Endpoint] = deque()
        self._ready_suspects: deque[Endpoint] = deque()
        self._lanes = 0
        self._suspects_running = 0
        self._has_room = asyncio.Event()
        self.waiting = 0
        """Runs that wait for a lane."""
        self.running = 0
        """Runs under way."""

    def endpoint(self, project: str, subscriber: str) -> Endpoint:
        key = (project, subscriber)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = self._endpoints[key] = Endpoint(self._per_endpoint, self._breaker_failures)
            self._forget_one()
        else:
            self._endpoints.move_to_end(key)
        return endpoint

    def admits(self, endpoint: Endpoint) -> bool:
        """Whether a run given now can be expected to start soon."""
        if endpoint.is_paused(self._timer()):
            return False
        if not endpoint.waiting and endpoint.has_room:
            return True
        expected = endpoint.turn_seconds(self._timer()) * (len(endpoint.waiting) + 1)
        return expected <= PATIENCE_SECONDS

    def submit(self, run: Run) -> None:
        """Let a run wait for its turn; the caller has asked `admits`, or means to insist."""
        run.offered_at = self._timer()
        run.endpoint.waiting.append(run)
        self.waiting += 1
        self._call_lane_for(run.endpoint)

    async def room(self) -> None:
        """Wait while all lanes are busy and as many runs wait."""
        while not self.has_room:
            self._has_room.clear()
            await self._has_room.wait()

    @property
    def has_room(self) -> bool:
        return self.waiting < self._total or self._lanes < self._total

    def turn_away_overdue(self) -> list[Run]:
        """Take back the runs that wait, or will wait, too long for their own endpoint.

        What waits only for a lane, since other endpoints are slow, would gain nothing by it.
        """
        overdue: list[Run] = []
        if self.waiting:
            for endpoint in self._endpoints.values():
                is_held_up = endpoint.is_suspect or not endpoint.has_room
                if endpoint.waiting and (is_held_up or endpoint.is_paused(self._timer())):
                    overdue += self._overdue_of(endpoint)
        self.waiting -= len(overdue)
        self._tell_room()
        return overdue

    def defer(self, endpoint: Endpoint) -> int:
        """In how many seconds a run that was turned away should come back: 1 to 60, after a pause.

        Each gets a turn of its own at the pace of the endpoint; beyond a minute they are spread.
        """
        now = self._timer()
        begin = max(now, endpoint.wait_until)
        turn = max(begin, now + 1, endpoint.booked_until)
        wait = turn - begin
        if wait >= LONGEST_DEFERRAL_SECONDS:
            spread = LONGEST_DEFERRAL_SECONDS * (1 + self._random()) / 2
            return math.ceil(begin - now + spread)
        endpoint.booked_until = turn + endpoint.turn_seconds(now)
        return math.ceil(turn - now)

    async def _lane(self) -> None:
        try:
            while (endpoint := self._next()) is not None:
                if endpoint.waiting:
                    await self._run(endpoint)
        finally:
            self._lanes -= 1
            self._tell_room()

    async def _run(self, endpoint: Endpoint) -> None:
        run = endpoint.waiting.popleft()
        is_suspect = endpoint.is_suspect
        if not endpoint.running:
            endpoint.progress_at = self._timer()
        endpoint.running += 1
        self.running += 1
        self._suspects_running += is_suspect
        self.waiting -= 1
        self._call_lane_for(endpoint)
        self._tell_room()
        try:
            await run.go()
        except Exception:  # A defect in one run must not end the lane that others need.
            logger.exception("A run failed", extra={"action": "run_failed"})
        finally:
            endpoint.running -= 1
            self.running -= 1
            self._suspects_running -= is_suspect
            self._line_up(endpoint)

    def _overdue_of(self, endpoint: Endpoint) -> list[Run]:
        now = self._timer()
        overdue: list[Run] = []
        if endpoint.is_paused(now):
            overdue.extend(endpoint.waiting)
            endpoint.waiting.clear()
            return overdue
        while endpoint.waiting and now - endpoint.waiting[0].offered_at > PATIENCE_SECONDS:
            overdue.append(endpoint.waiting.popleft())
        turn = endpoint.turn_seconds(now)
        hopeless: list[Run] = []
        while endpoint.waiting and turn * len(endpoint.waiting) > PATIENCE_SECONDS:
            hopeless.append(endpoint.waiting.pop())
        return overdue + hopeless[::-1]

    def _call_lane_for(self, endpoint: Endpoint) -> None:
        """Line the endpoint up, with one more lane for it when there may be one."""
        if self._line_up(endpoint) and self._lanes < self._total:
            self._lanes += 1
            self._spawn(self._lane())

    def _next(self) -> Endpoint | None:
        """The endpoint whose turn it is."""
        while True:
            suspects_may = self._suspects_running < self._suspects_total
            turns = self._ready_suspects if self._ready_suspects and suspects_may else self._ready
            if not turns:
                return None
            endpoint = turns.popleft()
            endpoint.is_queued = False
            # It may have become suspect, or healthy, while it stood in the line.
            if endpoint.is_suspect == (turns is self._ready_suspects):
                return endpoint
            self._line_up(endpoint)

    def _line_up(self, endpoint: Endpoint) -> bool:
        if endpoint.is_queued or not endpoint.waiting or not endpoint.has_room:
            return False
        endpoint.is_queued = True
        (self._ready_suspects if endpoint.is_suspect else self._ready).append(endpoint)
        return True

    def _tell_room(self) -> None:
        if self.has_room:
            self._has_room.set()

    def _forget_one(self) -> None:
        """Forget the endpoint asked for longest ago when there are too many, unless it is busy."""
        if len(self._endpoints) <= MAX_ENDPOINTS:
            return
        key, oldest = next(iter(self._endpoints.items()))
        if oldest.running or oldest.waiting:
            self._endpoints.move_to_end(key)
        else:
            del self._endpoints[key]
