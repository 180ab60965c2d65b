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
from enum import Enum
from itertools import islice
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from workers.attempts import Batch
from workers.filtering import policy_of
from workers.outages import Stop
from workers.pacing.bucket import Bucket
from workers.pacing.lanes import lanes_of
from workers.pacing.line import READ_AT_ONCE, Line
from workers.pacing.places import MOST_PLACES, Places
from workers.pacing.trying import Unit
from workers.receivers import Receivers
from workers.recorder import Recorder
from workers.replay_jobs import ReplayJobs
from workers.slots import Slots
from workers.sorting import Sorting
from workers.taken import Taken
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import Outgoing, OwedDelivery, Replay, outgoing_messages
from zaqar_notify.delivery.subscribers import subscribed_queue
from zaqar_notify.models import Subscription
from zaqar_notify.rules.filter_policy import Candidate, Undecided
from zaqar_notify.rules.pacing import Pace, pace_of

LOOK_SECONDS = 1.0
"""How often a round looks for what other processes have parked, while something of it is under way."""

LONGEST_WAIT_SECONDS = 5.0
"""With nothing under way, a longer wait is a later job's."""

LONGEST_PAUSE_SECONDS = 60
"""Between two attempts at a receiver that fails."""

MOST_BATCH_BYTES = 1 << 20
"""Of the payloads in one batch; a larger one goes alone."""


SUBSCRIPTION_SECONDS = 0.05
"""How long a reading of the subscription is believed while its deliveries go on."""

READ_AGAIN_SECONDS = 0.05
"""Between two reads that find nothing new."""


class Rest(msgspec.Struct, frozen=True):
    """The end of a round that leaves something: another job goes on with it in `delay` seconds, or before that if
    more is parked and it `is_asleep`."""

    delay: int = 0
    is_asleep: bool = False
    failures: int = 0
    failed_at: datetime | None = None
    ready_at: datetime | None = None


class Ended(Enum):
    """The other ends of a round."""

    EMPTY = "nothing is left on the queue"
    NOT_OURS = "this job is not to go on"


class Parts(NamedTuple):
    """The parts of the engine that rounds use."""

    receivers: Receivers
    sorting: Sorting
    slots: Slots[Batch]
    jobs: ReplayJobs
    places: Places
    recorder: Recorder
    clock: Clock
    stop: Stop


class _Ready(NamedTuple):
    """A delivery that has not begun, with the number of its next attempt."""

    taken: Taken
    message: Outgoing
    attempt: int
    lane: str | None


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
        self._line = line
        self._job = job
        self._replay = replay
        self._bell = bell
        self._bucket = bucket
        self._parts = parts
        self._receiver = parts.receivers.of(subscription)
        self._lane_of = lanes_of(pace)
        self._ready: dict[str, _Ready] = {}
        """By the ids of their records, in order."""
        self._known: set[str] = set()
        """Records in hand that were looked at."""
        self._waiting: list[Unit] = []
        """Requests that failed and keep their places until the next attempt."""
        self._lanes: set[str] = set()
        """Those in which a request is under way, or keeps its place."""
        self._running = 0
        self._unsent: str | None = None
        """With a bounded rate: the request that waits for a slot, by its first record."""
        self._is_broken = False
        self._believed_until = 0.0
        self._read_again_at = 0.0
        self._failures = replay.failures
        self._failed_at = replay.failed_at
        self._probe_at = 0.0

    async def serve(self) -> Rest | Ended:
        """Have deliveries made until the queue is empty, or the rest is better left to another job.

        Nothing is under way any more at the end.
        """
        await self._restore()
        while True:
            self._bell.clear()
            end = await self._reason_to_end()
            if end is None:
                has_new = await self._read()
                pause = self._begin()
                end = self._end_of_idle(pause, has_new=has_new)
            if end is not None:
                await self._come_to_rest()
                return end
            await self._rung(pause)

    async def has_missed_some(self) -> bool:
        """Whether there are deliveries on the queue that this round did not see."""
        return bool(await self._line.others_than(self._known))

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
        self._learn(has_failed=unit.endpoint.is_suspect)
        if again is None:
            self._lanes -= unit.lanes
        else:
            self._waiting.append(again)
        self._bell.set()

    def _learn(self, *, has_failed: bool) -> None:
        """A receiver that fails is tried again after longer and longer pauses."""
        if not has_failed:
            self._failures, self._probe_at = 0, 0.0
            return
        self._failures += 1
        self._failed_at = self._parts.clock.now()
        pause = min(LONGEST_PAUSE_SECONDS, 1 << min(self._failures, 6))
        self._probe_at = time.monotonic() + self._parts.jobs.spread(pause)

    # Whether it goes on

    async def _reason_to_end(self) -> Rest | Ended | None:
        parts = self._parts
        if self._is_broken or not self._job.is_held(parts.clock.now()):
            return Ended.NOT_OURS
        if parts.stop.is_set():
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

    def _end_of_idle(self, pause: float | None, *, has_new: bool) -> Rest | Ended | None:
        """The end of a round with nothing under way, and nothing to begin for long; None: it goes on."""
        if self._running or has_new:
            return None
        if not self._ready and not self._waiting:
            if self._line.in_hand:
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
        if self._pace.batching is None or self._probe_at > time.monotonic():
            return False
        return bool(self._startable(1)) and not self._pause_of_all() > 0

    def _rest(self, *, delay: int) -> Rest:
        now, ready_at = time.monotonic(), None
        if self._bucket is not None and self._bucket.until_full(now):
            ready_at = self._parts.clock.now() + timedelta(seconds=self._bucket.wait(now))
            delay = min(delay, math.ceil(self._bucket.until_full(now)))
        # Others may begin while some keep their places, unless all stand in one line behind these.
        may_others = not (self._pace.is_one_line and self._waiting)
        is_asleep = bool(delay and may_others and ready_at is None and now >= self._probe_at)
        return Rest(delay, is_asleep, self._failures, self._failed_at, ready_at)

    async def _come_to_rest(self) -> None:
        while self._running:
            self._bell.clear()
            await self._rung(None)
        if not self._is_broken:
            await self._line.deleted()
        self._line.close()

    async def _rung(self, pause: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(LOOK_SECONDS if pause is None else pause, LOOK_SECONDS)):
                await self._bell.wait()

    # Reading

    async def _restore(self) -> None:
        """Take up the deliveries that keep their places."""
        places, subscription = self._parts.places, self._receiver.subscription
        for kept in await places.all(subscription, self._line.ref):
            records = await self._line.get(kept.place.records)
            live = await self._live(records)
            if not live:
                await places.forget(subscription, kept.id)
                continue
            unit = self._unit(live, attempt=kept.place.attempt, due_at=kept.place.due_at)
            self._waiting.append(replace(unit, place=kept.id))
            self._lanes |= unit.lanes

    async def _read(self) -> bool:
        """Read more, if there is little to begin with; whether there was more."""
        if time.monotonic() < self._read_again_at or not self._line.has_room:
            return False
        least = self._pace.batching.count if self._pace.batching else 1
        if len(self._startable(least)) >= least:
            return False
        records = await self._line.read(max(READ_AT_ONCE, least))
        new = [each for each in records if each.message.id not in self._known]
        self._known.intersection_update(self._line.in_hand)
        if not new:
            pause = READ_AGAIN_SECONDS if self._running else 0.0
            self._read_again_at = time.monotonic() + pause
            return False
        for ready in await self._live(new):
            self._ready[ready.taken.message.id] = ready
        ids = (each.message.id for each in records)
        self._ready = {each: self._ready[each] for each in ids if each in self._ready}
        return True

    async def _live(self, records: Sequence[Taken]) -> list[_Ready]:
        """Those that are to be tried; the others are done with."""
        self._known.update(each.message.id for each in records)
        replay, subscription = self._replay, self._receiver.subscription
        records = [each for each in records if await self._is_meant(each, subscription)]
        if self._pace.keeps_places:
            # No try of those behind others fell due while the receiver failed.
            replay = replace(replay, failed_at=None)
        live = await self._parts.sorting.sort(records, subscription, replay)
        return [
            _Ready(taken, message, attempt, self._lane_of(message))
            for taken, message, attempt in live
        ]

    async def _is_meant(self, record: Taken, subscription: Subscription) -> bool:
        """Whether it is for this subscription: a post parks all its messages, and asks for nothing else."""
        work = record.work
        if work is None:
            await self._parts.sorting.put_aside(record)
            return False
        if not isinstance(work, OwedDelivery) or work.due_at is not None:
            return True
        posted_at = work.posted_at or record.message.posted_at
        record.work = replace(work, since=work.since or record.due_at, posted_at=posted_at)
        if not self._parts.receivers.may_notify(subscription) or subscribed_queue(
            subscription.subscriber
        ) in (work.queue, *work.visited):
            is_meant = False
        else:
            is_meant = self._passes(record.work, subscription)
        if not is_meant:
            with record:
                pass
        return is_meant

    def _passes(self, work: OwedDelivery, subscription: Subscription) -> bool:
        """Whether the subscription's filter policy lets it through."""
        recorder = self._parts.recorder
        policy = policy_of(subscription, recorder)
        if policy is None:
            return True
        [message] = outgoing_messages(work)
        try:
            passes = policy.accepts(Candidate(message.message))
        except Undecided:
            recorder.filter_undecided(subscription, message)
            passes = True
        recorder.filtered(subscription, accepted=int(passes), rejected=int(not passes))
        return passes

    # Beginning

    def _begin(self) -> float | None:
        """Begin each request that may begin; in how many seconds another one may by itself, if that is known."""
        while self._unsent is None and self._running < self._most:
            pause = self._pause_of_all()
            if pause > 0:
                return pause
            unit, pause_of_next = self._next()
            if unit is None:
                return pause_of_next
            self._running += 1
            self._lanes |= unit.lanes
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
        if not self._ready and not self._waiting:
            return 0.0
        now = time.monotonic()
        pauses = [self._receiver.endpoint.wait_until - now]
        if self._bucket is not None:
            pauses.append(self._bucket.wait(now))
        return max(pauses)

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
        batching = self._pace.batching
        chosen = self._startable(batching.count if batching else 1)
        if not chosen:
            return None, None
        pause = self._probe_at - time.monotonic()
        if pause > 0:
            return None, pause
        if batching is not None:
            chosen, is_full = _within_bytes(chosen)
            waits_until = chosen[0].taken.message.posted_at + timedelta(seconds=batching.seconds)
            if not is_full and len(chosen) < batching.count and now < waits_until:
                return None, (waits_until - now).total_seconds()
        for ready in chosen:
            del self._ready[ready.taken.message.id]
        attempt = max(ready.attempt for ready in chosen)
        return self._unit(chosen, attempt=attempt, due_at=now), None

    def _startable(self, count: int) -> list[_Ready]:
        """The first deliveries whose lanes are free, up to so many."""
        return list(islice((r for r in self._ready.values() if self._is_free(r.lane)), count))

    def _is_free(self, lane: str | None) -> bool:
        return lane is None or lane not in self._lanes

    def _unit(self, chosen: Sequence[_Ready], *, attempt: int, due_at: datetime) -> Unit:
        return Unit(
            self._receiver,
            [ready.message for ready in chosen],
            attempt,
            self._job,
            is_patient=True,
            owner=self,
            on=self._line.ref,
            records=[ready.taken for ready in chosen],
            lanes=frozenset(ready.lane for ready in chosen if ready.lane is not None),
            due_at=due_at,
            keeps_place=self._pace.keeps_places,
            is_batch=self._pace.batching is not None,
        )


def _within_bytes(chosen: list[_Ready]) -> tuple[list[_Ready], bool]:
    """Those at the beginning that one request may have together; whether more would be too large."""
    size = 0
    for number, ready in enumerate(chosen):
        size += len(ready.message.payload)
        if number and size > MOST_BATCH_BYTES:
            return chosen[:number], True
    return chosen, False
