"""One own queue of a paced subscription: which of its deliveries begin, and when.

All decisions are of this one consumer, so order, batches, rate and the bound of requests under way hold over the
whole cluster.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec.structs import replace

from workers.endpoints import Endpoint
from workers.pacing.bucket import Bucket
from workers.pacing.line import Line
from workers.pacing.parts import Ended, Parts, Rest
from workers.pacing.places import MOST_PLACES
from workers.pacing.trying import Unit
from workers.pacing.window import Ready, Window
from workers.taken import Taken
from zaqar_notify.delivery import Replay
from zaqar_notify.models import Subscription
from zaqar_notify.rules.pacing import Pace, pace_of

LOOK_SECONDS = 1.0
"""How often a round looks for what other processes have parked, while something of it is under way."""

LONGEST_WAIT_SECONDS = 5.0
"""With nothing under way, a longer wait is a later job's."""

TURN_SECONDS = 5.0
"""After which it gives way to others, where its project has as many jobs in hand as it may."""

LONGEST_PAUSE_SECONDS = 60
"""Between two attempts at a receiver that fails."""


SUBSCRIPTION_SECONDS = 0.05
"""How long a reading of the subscription is believed while its deliveries go on."""


class Round:
    """Made for one own queue; `serve` is called once."""

    def __init__(
        self,
        subscription: Subscription,
        pace: Pace,
        line: Line,
        job: Taken,
        replay: Replay,
        *,
        bell: asyncio.Event,
        bucket: Bucket | None,
        parts: Parts,
    ) -> None:
        self._pace = pace
        self._window = Window(
            line,
            pace,
            replay,
            sorting=parts.sorting,
            receivers=parts.receivers,
            recorder=parts.recorder,
        )
        self._job = job
        self._replay = replay
        self._bell = bell
        self._bucket = bucket
        self._parts = parts
        self._receiver = parts.receivers.of(subscription)
        self._waiting: list[Unit] = []
        """Requests that failed and keep their places until the next attempt."""
        self._running = 0
        self._unsent: str | None = None
        """With a bounded rate: the request that waits for a slot, by its first record."""
        self._is_broken = False
        self._began_at = time.monotonic()
        self._believed_until = 0.0
        self._failures = replay.failures
        self._failed_at = replay.failed_at

    async def serve(self) -> Rest | Ended:
        """Have deliveries made until the queue is empty, or the rest is better left to another job.

        Nothing is under way any more at the end.
        """
        await self._restore()
        while True:
            self._bell.clear()
            end = await self._reason_to_end()
            if end is None:
                subscription = self._receiver.subscription
                has_new = await self._window.read(subscription, is_busy=bool(self._running))
                pause = await self._begin()
                end = self._end_of_idle(pause, has_new=has_new)
            if end is not None:
                await self._come_to_rest()
                return end
            await self._rung(pause)

    async def has_missed_some(self) -> bool:
        """Whether there are deliveries on the queue that this round did not see."""
        return await self._window.has_missed_some()

    # As the owner of requests

    def begun(self, unit: Unit) -> None:
        if self._unsent == unit.ids[0]:
            self._unsent = None
        if self._bucket is not None:
            self._bucket.spend(time.monotonic())
            self._bell.set()

    def broke(self) -> None:
        self._is_broken = True

    def ended(self, unit: Unit, again: Unit | None) -> None:
        self._running -= 1
        if self._unsent == unit.ids[0]:
            self._unsent = None
        if unit.receiver.is_disabled or unit.receiver.is_over:
            self._believed_until = 0.0
        self._learn(unit.endpoint)
        if again is None:
            self._window.lanes -= unit.lanes
        else:
            self._waiting.append(again)
        self._bell.set()

    def _learn(self, endpoint: Endpoint) -> None:
        """A receiver that fails is tried again after longer and longer pauses."""
        if not endpoint.is_suspect:
            self._failures = 0
            return
        self._failures += 1
        self._failed_at = self._parts.clock.now()
        pause = min(LONGEST_PAUSE_SECONDS, 1 << min(self._failures, 6))
        self._parts.breakers.opened(endpoint, self._parts.jobs.spread(pause))

    # Whether it goes on

    async def _reason_to_end(self) -> Rest | Ended | None:
        parts = self._parts
        if self._is_broken or not self._job.is_held(parts.clock.now()):
            return Ended.NOT_OURS
        if parts.stop.is_set() or self._has_had_its_turn():
            return self._rest(delay=0)
        if time.monotonic() < self._believed_until:
            return None
        subscription = await parts.jobs.current(self._replay)
        if subscription is None or subscription.replay_id != self._replay.id:
            return Ended.NOT_OURS
        if pace_of(subscription.options) != self._pace:
            return self._rest(delay=0)
        self._believed_until = time.monotonic() + SUBSCRIPTION_SECONDS
        self._receiver = parts.receivers.of(subscription)
        return None

    def _has_had_its_turn(self) -> bool:
        """Whether other jobs of the project should go on before this one does."""
        return time.monotonic() > self._began_at + TURN_SECONDS and self._job.crowds()

    def _end_of_idle(self, pause: float | None, *, has_new: bool) -> Rest | Ended | None:
        """The end of a round with nothing under way, and nothing to begin for long; None: it goes on."""
        if self._running or has_new:
            return None
        if not self._window.has_ready and not self._waiting:
            if not self._window.is_empty:
                return None
            full = 0.0 if self._bucket is None else self._bucket.until_full(time.monotonic())
            if not full:
                return Ended.EMPTY
            pause = full
        if pause is None or pause <= LONGEST_WAIT_SECONDS or self._is_gathering:
            return None
        return self._rest(delay=int(pause))

    @property
    def _is_gathering(self) -> bool:
        """Whether a batch waits for more messages, and for nothing else."""
        if self._pace.batching is None or self._pause_of_all() > 0:
            return False
        return bool(self._window.startable(1))

    def _rest(self, *, delay: int) -> Rest:
        now, ready_at = time.monotonic(), None
        if self._bucket is not None and self._bucket.until_full(now):
            ready_at = self._parts.clock.now() + timedelta(seconds=self._bucket.wait(now))
            delay = min(delay, math.ceil(self._bucket.until_full(now)))
        # Others may begin while some keep their places, unless all stand in one line behind these.
        may_others = not (self._pace.is_one_line and self._waiting) and self._pause_of_all() <= 0
        is_asleep = bool(delay and may_others and ready_at is None)
        return Rest(delay, is_asleep, self._failures, self._failed_at, ready_at)

    async def _come_to_rest(self) -> None:
        while self._running:
            self._bell.clear()
            await self._rung(None)
        if not self._is_broken:
            await self._window.line.deleted()

    async def _rung(self, pause: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(LOOK_SECONDS if pause is None else pause, LOOK_SECONDS)):
                await self._bell.wait()

    async def _restore(self) -> None:
        """Take up the deliveries that keep their places."""
        places, subscription, window = self._parts.places, self._receiver.subscription, self._window
        for kept in await places.all(subscription, window.line.ref):
            records = await window.line.get(kept.place.records)
            live = await window.live(records, subscription)
            if not live:
                await places.forget(subscription, kept.id)
                continue
            unit = self._unit(live, attempt=kept.place.attempt, due_at=kept.place.due_at)
            self._waiting.append(replace(unit, place=kept.id))
            window.lanes |= unit.lanes

    # Beginning

    async def _begin(self) -> float | None:
        """Begin each request that may begin; in how many seconds another one may by itself, if that is known."""
        while self._unsent is None and self._running < self._most:
            pause = self._pause_of_all()
            if pause <= 0 and self._receiver.endpoint.is_suspect and self._has_next():
                pause = await self._parts.breakers.seconds_until_probe(self._receiver.endpoint)
            if pause > 0:
                return pause
            unit, pause_of_next = self._next()
            if unit is None:
                return pause_of_next
            self._running += 1
            self._window.lanes |= unit.lanes
            if self._bucket is not None:
                self._unsent = unit.ids[0]
            self._parts.slots.submit(unit)
        return None

    @property
    def _most(self) -> int:
        """Requests that may be under way at once."""
        if self._pace.is_one_line:
            return 1
        endpoint = self._receiver.endpoint
        own = max(1, endpoint.limit - endpoint.running + self._running)
        return own if self._pace.in_flight is None else min(own, self._pace.in_flight)

    def _pause_of_all(self) -> float:
        """Seconds until the receiver takes a request, whichever."""
        if not self._window.has_ready and not self._waiting:
            return 0.0
        now, endpoint = time.monotonic(), self._receiver.endpoint
        pauses = [endpoint.wait_until - now, endpoint.seconds_open(self._parts.clock.now())]
        if self._bucket is not None:
            pauses.append(self._bucket.wait(now))
        return max(pauses)

    def _has_next(self) -> bool:
        now = self._parts.clock.now()
        return any(unit.due_at <= now for unit in self._waiting) or bool(self._window.startable(1))

    def _next(self) -> tuple[Unit | None, float | None]:
        """The request that is to begin now; or in how many seconds there is one, if that is known."""
        now = self._parts.clock.now()
        self._waiting.sort(key=lambda unit: unit.due_at)
        pauses = [(unit.due_at - now).total_seconds() for unit in self._waiting[:1]]
        if pauses and pauses[0] <= 0:
            return replace(self._waiting.pop(0), receiver=self._receiver), None
        if len(self._waiting) < MOST_PLACES:
            unit, pause = self._next_new(now)
            if unit is not None:
                return unit, None
            pauses += [] if pause is None else [pause]
        return None, min(pauses, default=None)

    def _next_new(self, now: datetime) -> tuple[Unit | None, float | None]:
        chosen, pause = self._window.next_request(now)
        if not chosen:
            return None, pause
        self._window.take(chosen)
        attempt = max(ready.attempt for ready in chosen)
        return self._unit(chosen, attempt=attempt, due_at=now), None

    def _unit(self, chosen: Sequence[Ready], *, attempt: int, due_at: datetime) -> Unit:
        return Unit(
            self._receiver,
            [ready.message for ready in chosen],
            attempt,
            self._job,
            is_patient=True,
            owner=self,
            on=self._window.line.ref,
            records=[ready.taken for ready in chosen],
            lanes=frozenset(ready.lane for ready in chosen if ready.lane is not None),
            due_at=due_at,
            keeps_place=self._pace.keeps_places,
            is_batch=self._pace.batching is not None,
        )
