"""Batches under way at once: bounded in all, by project and by endpoint; fair between projects, then
between a project's endpoints.

A *batch* is work for one endpoint; a *slot* is the right of one batch to be under way. Projects take turns,
and within each its endpoints do. A project never has all slots (`sharing`). A batch that can't start soon is
turned away: the caller writes it to the store and comes back with it. All suspect endpoints together have at
most a quarter of the slots.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, Protocol, TypeAlias, TypeVar

from workers.endpoints import PATIENCE_SECONDS, Endpoint
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.rules.sharing import Budget

logger = logging.getLogger(__name__)

Spawn: TypeAlias = Callable[[Coroutine[object, object, None]], object]


class AnyBatch(Protocol):
    """Work for one endpoint, not started yet."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def may_begin(self) -> bool:
        """Whether it may begin before others that are stored already."""

    @property
    def is_patient(self) -> bool:
        """Waits for its turn however long that takes."""

    def accepted(self) -> None:
        """It will be performed, or turned away."""


BatchT = TypeVar("BatchT", bound=AnyBatch)


class _Turns:
    """A project with batches that wait: its endpoints with a batch waiting and room for it, in turn."""

    __slots__ = ("is_queued", "project", "ready", "suspects", "waiting")

    def __init__(self, project: str) -> None:
        self.project = project
        self.ready: deque[Endpoint] = deque()
        self.suspects: deque[Endpoint] = deque()
        self.waiting = 0
        """Batches of the project that wait for a slot."""
        self.is_queued = False
        """Whether it stands in the line of projects, as it does while an endpoint is in turn."""

    def line_up(self, endpoint: Endpoint) -> None:
        endpoint.is_queued = True
        (self.suspects if endpoint.is_suspect else self.ready).append(endpoint)


class Slots(Generic[BatchT]):
    """The slots of one process. Each batch is a task of its own, started with `spawn`."""

    def __init__(
        self,
        perform: Callable[[BatchT], Awaitable[None]],
        spawn: Spawn,
        *,
        total: int,
        most_of: Callable[[str], int] | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`perform` does a batch, and tells its endpoint of each attempt. `most_of` is a project's quota of batches under way."""
        self._perform = perform
        self._spawn = spawn
        self._busy = Budget(total, most_of)
        self._busy_with_suspects = Budget(max(1, total // 4))
        self._timer = timer
        self._waiting: dict[Endpoint, deque[tuple[float, BatchT]]] = {}
        """By endpoint, with the instant at which each was submitted; no endpoint is there without one."""
        self._by_project: dict[str, _Turns] = {}
        """Of each project with a batch that waits."""
        self._turns: deque[_Turns] = deque()
        """Projects with an endpoint that could begin a batch, in turn."""
        self._has_room = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Batches that wait for a slot."""
        return sum(turns.waiting for turns in self._by_project.values())

    @property
    def running(self) -> int:
        """Batches under way."""
        return self._busy.used

    def offer(self, batch: BatchT) -> bool:
        """Take the batch, if it can be expected to begin soon."""
        if not batch.may_begin or not batch.endpoint.admits(self._timer()):
            return False
        self.submit(batch)
        return True

    def submit(self, batch: BatchT) -> None:
        """Begin a batch, or let it wait for its turn."""
        batch.accepted()
        endpoint = batch.endpoint
        if not self._turns and self.admits_probe(endpoint):
            self._begin(endpoint, batch)
            return
        line = self._waiting.get(endpoint)
        if line is None:
            line = self._waiting[endpoint] = deque()
        line.append((self._timer(), batch))
        endpoint.waiting += 1
        turns = self._by_project.get(endpoint.project)
        if turns is None:
            turns = self._by_project[endpoint.project] = _Turns(endpoint.project)
        turns.waiting += 1
        self._line_up(endpoint)
        self._fill()

    async def room(self, project: str) -> None:
        """Wait while the project has all slots that it may have, and as many batches wait as there are slots."""
        while not self._has_room_for(project):
            self._has_room.clear()
            await self._has_room.wait()

    def _has_room_for(self, project: str) -> bool:
        turns = self._by_project.get(project)
        is_short = turns is None or turns.waiting < self._busy.total
        return is_short or self._busy.has_room_for(project)

    def turn_away_overdue(self) -> list[BatchT]:
        """Take back the batches that wait, or will wait, too long for their own endpoint.

        A batch that waits only for a slot, since other endpoints are slow, would gain nothing by it.
        """
        overdue: list[BatchT] = []
        now = self._timer()
        for endpoint in list(self._waiting):
            if endpoint.is_suspect or not endpoint.has_room or endpoint.is_paused(now):
                overdue += self._turn_away_overdue_of(endpoint, now)
        if overdue:
            self._has_room.set()
        return overdue

    def _turn_away_overdue_of(self, endpoint: Endpoint, now: float) -> list[BatchT]:
        line = self._waiting[endpoint]
        late = _take_overdue(line, endpoint, now)
        line.extend(each for each in late if each[1].is_patient)
        turned_away = [batch for _, batch in late if not batch.is_patient]
        if not line:
            del self._waiting[endpoint]
        endpoint.waiting = len(line)
        turns = self._by_project[endpoint.project]
        turns.waiting -= len(turned_away)
        self._forget_if_idle(turns)
        return turned_away

    def admits_probe(self, endpoint: Endpoint) -> bool:
        """Whether a batch given now would start at once."""
        if endpoint.is_paused(self._timer()) or endpoint.waiting or not endpoint.has_room:
            return False
        if endpoint.is_suspect and not self._busy_with_suspects.has_room_for(endpoint.project):
            return False
        return self._busy.has_room_for(endpoint.project)

    def _fill(self) -> None:
        """Begin each batch that may begin now."""
        while self._turns and self._begin_next():
            pass

    def _begin(self, endpoint: Endpoint, batch: BatchT) -> None:
        """The batch is under way from now on. Batches start in the order in which they began."""
        if not endpoint.running:
            endpoint.progress_at = self._timer()
        endpoint.running += 1
        self._busy.take(endpoint.project)
        if endpoint.is_suspect:
            self._busy_with_suspects.take(endpoint.project)
        self._spawn(self._slot(endpoint, batch, is_suspect=endpoint.is_suspect))

    async def _slot(self, endpoint: Endpoint, batch: BatchT, *, is_suspect: bool) -> None:
        try:
            await self._perform(batch)
        except StorageUnavailable:
            pass  # Its job was let go: see `workers.store`.
        except Exception:  # A defect in one batch is no defect of the engine.
            logger.exception("A batch failed", extra={"action": "batch_failed"})
        finally:
            endpoint.running -= 1
            self._busy.give(endpoint.project)
            if is_suspect:
                self._busy_with_suspects.give(endpoint.project)
            self._line_up(endpoint)
            self._has_room.set()
        self._fill()

    def _begin_next(self) -> bool:
        """Begin the batch whose turn it is: of the endpoint whose turn it is, of the project whose turn it is."""
        for _ in range(len(self._turns)):
            turns = self._turns.popleft()
            turns.is_queued = False
            endpoint = self._next_of(turns) if self._busy.has_room_for(turns.project) else None
            if endpoint is not None:
                self._begin(endpoint, self._take_waiting(endpoint, turns))
                self._line_up(endpoint)
            self._line_up_project(turns)
            self._forget_if_idle(turns)
            if endpoint is not None:
                return True
        return False

    def _next_of(self, turns: _Turns) -> Endpoint | None:
        while True:
            may_be_suspect = self._busy_with_suspects.has_room_for(turns.project)
            is_for_suspects = bool(turns.suspects) and may_be_suspect
            line = turns.suspects if is_for_suspects else turns.ready
            if not line:
                return None
            endpoint = line.popleft()
            endpoint.is_queued = False
            # It may have become suspect, or healthy, while it stood in the line, or its batches were turned away.
            if endpoint.waiting and endpoint.is_suspect == is_for_suspects:
                return endpoint
            self._line_up(endpoint)

    def _take_waiting(self, endpoint: Endpoint, turns: _Turns) -> BatchT:
        line = self._waiting[endpoint]
        _, batch = line.popleft()
        if not line:
            del self._waiting[endpoint]
        endpoint.waiting -= 1
        turns.waiting -= 1
        self._has_room.set()
        return batch

    def _line_up(self, endpoint: Endpoint) -> None:
        if not endpoint.waiting or endpoint.is_queued or not endpoint.has_room:
            return
        turns = self._by_project[endpoint.project]
        turns.line_up(endpoint)
        self._line_up_project(turns)

    def _line_up_project(self, turns: _Turns) -> None:
        if not turns.is_queued and (turns.ready or turns.suspects):
            turns.is_queued = True
            self._turns.append(turns)

    def _forget_if_idle(self, turns: _Turns) -> None:
        if not turns.waiting and not turns.is_queued:
            del self._by_project[turns.project]


def _take_overdue(
    line: deque[tuple[float, BatchT]], endpoint: Endpoint, now: float
) -> list[tuple[float, BatchT]]:
    overdue: list[tuple[float, BatchT]] = []
    if endpoint.is_paused(now):
        overdue.extend(line)
        line.clear()
        return overdue
    while line and now - line[0][0] > PATIENCE_SECONDS:
        overdue.append(line.popleft())
    turn = endpoint.turn_seconds(now)
    hopeless: list[tuple[float, BatchT]] = []
    while line and turn * len(line) > PATIENCE_SECONDS:
        hopeless.append(line.pop())
    return overdue + hopeless[::-1]
