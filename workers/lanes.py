"""Tries under way at once: bounded in all, by project and by endpoint; fair between projects, then
between a project's endpoints.

An *endpoint* is what a project's subscriptions with one subscriber URI share. A *run* is work for
one endpoint; a *lane* is a task that does one run after another. Projects take turns, and within
each its endpoints do. A project never has all lanes (`sharing`). What can't start soon is turned
away: the caller writes it to the store and comes back with it.

An endpoint that has not been tried gets `endpoints.FIRST_RUNS` at a time, and one more with each success. After
some failures in a row it is *suspect*: it gets one run at a time until one succeeds, and all suspects
together have at most a quarter of the lanes. An endpoint that asked for a pause gets no run until that
has passed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import TypeAlias

from workers.endpoints import Endpoint, Run
from workers.sharing import Budget

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""How long a run waits in memory for a lane."""

LONGEST_DEFERRAL_SECONDS = 60
"""Until what was turned away is looked at again, at most: a recovered endpoint waits no longer."""

MAX_ENDPOINTS = 10_000
"""Endpoints whose state is remembered, of some 300 bytes each; idle ones are forgotten first."""

Spawn: TypeAlias = Callable[[Coroutine[object, object, None]], object]


class _Turns:
    """A project's endpoints with a run waiting and room for it, in turn."""

    __slots__ = ("is_queued", "project", "ready", "suspects", "waiting")

    def __init__(self, project: str) -> None:
        self.project = project
        self.ready: deque[Endpoint] = deque()
        self.suspects: deque[Endpoint] = deque()
        self.waiting = 0
        """Runs of the project that wait for a lane."""
        self.is_queued = False

    def line_up(self, endpoint: Endpoint) -> None:
        endpoint.is_queued = True
        (self.suspects if endpoint.is_suspect else self.ready).append(endpoint)


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
        self._busy = Budget(total)
        self._busy_with_suspects = Budget(max(1, total // 4))
        self._per_endpoint = per_endpoint
        self._breaker_failures = breaker_failures
        self._random = random
        self._timer = timer
        self._endpoints: OrderedDict[tuple[str, str], Endpoint] = OrderedDict()
        self._by_project: dict[str, _Turns] = {}
        """Of each project with a run that waits."""
        self._turns: deque[_Turns] = deque()
        """Projects with an endpoint that could begin a run, in turn."""
        self._lanes = 0
        self._has_room = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Runs that wait for a lane."""
        return sum(turns.waiting for turns in self._by_project.values())

    @property
    def running(self) -> int:
        """Runs under way."""
        return self._busy.used

    def endpoint(self, project: str, subscriber: str) -> Endpoint:
        key = (project, subscriber)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = Endpoint(project, self._per_endpoint, self._breaker_failures)
            self._endpoints[key] = endpoint
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
        if endpoint.is_suspect:
            return False  # One stands for all of them.
        expected = endpoint.turn_seconds(self._timer()) * (len(endpoint.waiting) + 1)
        return expected <= PATIENCE_SECONDS

    def submit(self, run: Run) -> None:
        """Let a run wait for its turn; the caller has asked `admits`, or means to insist."""
        run.offered_at = self._timer()
        run.endpoint.waiting.append(run)
        self._count_waiting(run.endpoint.project, 1)
        self._line_up(run.endpoint)
        self._call_lane()

    async def room(self, project: str) -> None:
        """Wait while the project has all lanes that it may have, and as many runs wait as there are lanes."""
        while not self._has_room_for(project):
            self._has_room.clear()
            await self._has_room.wait()

    def _has_room_for(self, project: str) -> bool:
        turns = self._by_project.get(project)
        is_short = turns is None or turns.waiting < self._busy.total
        return is_short or self._busy.has_room_for(project)

    def turn_away_overdue(self) -> list[Run]:
        """Take back the runs that wait, or will wait, too long for their own endpoint.

        What waits only for a lane, since other endpoints are slow, would gain nothing by it.
        """
        overdue: list[Run] = []
        if self._by_project:
            for endpoint in self._endpoints.values():
                is_held_up = endpoint.is_suspect or not endpoint.has_room
                if endpoint.waiting and (is_held_up or endpoint.is_paused(self._timer())):
                    late = self._overdue_of(endpoint)
                    endpoint.waiting.extend(run for run in late if run.insists)
                    late = [run for run in late if not run.insists]
                    self._count_waiting(endpoint.project, -len(late))
                    overdue += late
        if overdue:
            self._has_room.set()
        return overdue

    def admits_probe(self, endpoint: Endpoint) -> bool:
        """Whether a run given now would start at once."""
        if endpoint.is_paused(self._timer()) or endpoint.waiting or not endpoint.has_room:
            return False
        if endpoint.is_suspect and not self._busy_with_suspects.has_room_for(endpoint.project):
            return False
        return self._busy.has_room_for(endpoint.project)

    def is_paused(self, endpoint: Endpoint) -> bool:
        return endpoint.is_paused(self._timer())

    def defer(self, endpoint: Endpoint) -> int | None:
        """In how many seconds a run that was turned away should come back: 1 to 60, after a pause.

        Each gets a turn of its own at the pace of the endpoint. None: that would be in more than a
        minute, or the endpoint fails. Coming back again and again would cost more than to be fetched.
        """
        if endpoint.is_suspect:
            return None
        now = self._timer()
        begin = max(now, endpoint.wait_until)
        turn = max(begin, now + 1, endpoint.booked_until)
        wait = turn - begin
        if wait >= LONGEST_DEFERRAL_SECONDS:
            return None
        endpoint.booked_until = turn + endpoint.turn_seconds(now)
        return math.ceil(turn - now)

    async def _lane(self) -> None:
        try:
            while (endpoint := self._next()) is not None:
                if endpoint.waiting:
                    await self._run(endpoint)
        finally:
            self._lanes -= 1

    async def _run(self, endpoint: Endpoint) -> None:
        run = endpoint.waiting.popleft()
        project, is_suspect = endpoint.project, endpoint.is_suspect
        if not endpoint.running:
            endpoint.progress_at = self._timer()
        endpoint.running += 1
        self._busy.take(project)
        if is_suspect:
            self._busy_with_suspects.take(project)
        self._count_waiting(project, -1)
        self._line_up(endpoint)
        self._call_lane()
        self._has_room.set()
        try:
            await run.go()
        except Exception:  # A defect in one run must not end the lane that others need.
            logger.exception("A run failed", extra={"action": "run_failed"})
        finally:
            endpoint.running -= 1
            self._busy.give(project)
            if is_suspect:
                self._busy_with_suspects.give(project)
            self._line_up(endpoint)
            self._has_room.set()

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

    def _call_lane(self) -> None:
        """Have one more lane when there may be one, with something to do for it."""
        if self._lanes < self._busy.total and any(map(self._may_begin, self._turns)):
            self._lanes += 1
            self._spawn(self._lane())

    def _may_begin(self, turns: _Turns) -> bool:
        return self._busy.has_room_for(turns.project) and (
            bool(turns.ready) or self._may_begin_suspect(turns)
        )

    def _may_begin_suspect(self, turns: _Turns) -> bool:
        return bool(turns.suspects) and self._busy_with_suspects.has_room_for(turns.project)

    def _next(self) -> Endpoint | None:
        """The endpoint whose turn it is, of the project whose turn it is."""
        for _ in range(len(self._turns)):
            turns = self._turns.popleft()
            endpoint = self._next_of(turns) if self._busy.has_room_for(turns.project) else None
            turns.is_queued = False
            self._line_up_project(turns)
            self._forget_if_idle(turns)
            if endpoint is not None:
                return endpoint
        return None

    def _next_of(self, turns: _Turns) -> Endpoint | None:
        while True:
            is_for_suspects = self._may_begin_suspect(turns)
            line = turns.suspects if is_for_suspects else turns.ready
            if not line:
                return None
            endpoint = line.popleft()
            endpoint.is_queued = False
            # It may have become suspect, or healthy, while it stood in the line.
            if endpoint.is_suspect == is_for_suspects:
                return endpoint
            self._line_up(endpoint)

    def _line_up(self, endpoint: Endpoint) -> None:
        if endpoint.is_queued or not endpoint.waiting or not endpoint.has_room:
            return
        turns = self._by_project[endpoint.project]
        turns.line_up(endpoint)
        self._line_up_project(turns)

    def _line_up_project(self, turns: _Turns) -> None:
        if not turns.is_queued and (turns.ready or turns.suspects):
            turns.is_queued = True
            self._turns.append(turns)

    def _count_waiting(self, project: str, change: int) -> None:
        turns = self._by_project.get(project)
        if turns is None:
            turns = self._by_project[project] = _Turns(project)
        turns.waiting += change
        self._forget_if_idle(turns)

    def _forget_if_idle(self, turns: _Turns) -> None:
        if not turns.waiting and not turns.is_queued and not turns.ready and not turns.suspects:
            self._by_project.pop(turns.project, None)

    def _forget_one(self) -> None:
        """Forget the endpoint asked for longest ago when there are too many, unless it is busy."""
        if len(self._endpoints) <= MAX_ENDPOINTS:
            return
        key, oldest = next(iter(self._endpoints.items()))
        if oldest.running or oldest.waiting:
            self._endpoints.move_to_end(key)
        else:
            del self._endpoints[key]
