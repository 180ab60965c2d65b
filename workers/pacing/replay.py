"""The replay of a paced subscription. The one job that the subscription names does all its deliveries."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from weakref import WeakValueDictionary

from msgspec.structs import replace

from workers.consumers import Consumers
from workers.pacing.bucket import Bucket
from workers.pacing.line import Line
from workers.pacing.parts import Ended, Parts, Rest
from workers.pacing.round import Round
from workers.slots import Spawn
from workers.store import RetryingStore
from workers.taken import Taken
from zaqar_notify.delivery import Replay
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.pacing import Pace, pace_of
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import held_ref, parked_ref

FRESH_SECONDS = 1
"""A job that is claimed so soon, for the first time, follows no other one that just sent something."""


class PacedReplays:
    def __init__(
        self,
        store: RetryingStore,
        consumers: Consumers,
        parts: Parts,
        spawn: Spawn,
        *,
        settings: Settings,
    ) -> None:
        self._store = store
        self._consumers = consumers
        self._parts = parts
        self._spawn = spawn
        self._settings = settings
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, taken: Taken, job: Replay) -> None:
        """Deliver until nothing waits, or leave the rest to a later job.

        One that was paused and resumed meanwhile has a new job, which waits for the requests of the former one.
        """
        async with self._lock(job):
            await self._run(taken, job)

    async def come_to_rest(self, job: Replay) -> None:
        """Wait until no job of this process has requests under way for the job's subscription."""
        async with self._lock(job):
            pass

    def _lock(self, job: Replay) -> asyncio.Lock:
        return self._locks.setdefault(job.subscription_id, asyncio.Lock())

    async def _run(self, taken: Taken, job: Replay) -> None:
        jobs = self._parts.jobs
        subscription = await jobs.take_on(job)
        pace = None if subscription is None else pace_of(subscription.options)
        if subscription is None:
            return
        if pace is None:
            await jobs.pass_on(job, subscription, delay=0)
            return
        end, last = await self._rounds(taken, job, subscription, pace)
        if isinstance(end, Rest):
            await jobs.pass_on(
                job,
                subscription,
                delay=end.delay,
                is_asleep=end.is_asleep,
                failures=end.failures,
                failed_at=end.failed_at,
                ready_at=end.ready_at,
            )
            # Another worker that parked something before it could see that relies on this job.
            if end.is_asleep and await last.has_missed_some():
                await jobs.ensure(replace(subscription, replay_id=None))
        elif end is Ended.EMPTY:
            await self._end(job, subscription)

    async def _rounds(
        self, taken: Taken, job: Replay, subscription: Subscription, pace: Pace
    ) -> tuple[Rest | Ended, Round]:
        """The end of the rounds, and the last one."""
        bucket = self._bucket(taken, job, pace)
        with self._parts.jobs.bell_of(subscription.id) as bell:
            # What is held is of the time before it was paced.
            for own in (held_ref(subscription.id), parked_ref(subscription.id)):
                line = Line(
                    self._store.at(subscription.queue),
                    own,
                    taken,
                    self._consumers.bytes_of_lines,
                    self._spawn,
                    clock=self._parts.clock,
                    freed=bell.set,
                )
                last = Round(
                    subscription,
                    pace,
                    line,
                    taken,
                    job,
                    bell=bell,
                    bucket=bucket,
                    parts=self._parts,
                )
                try:
                    end = await last.serve()
                finally:
                    line.close()
                if end is not Ended.EMPTY:
                    break
        return end, last

    async def _end(self, job: Replay, subscription: Subscription) -> None:
        """Nothing waits any more; or what does can't be decrypted now."""
        own = parked_ref(subscription.id)
        if await self._is_locked(subscription.queue, own):
            delay = self._settings.delivery_lease_seconds
            await self._parts.jobs.pass_on(job, subscription, delay=delay)
        else:
            await self._parts.jobs.end(job)

    async def _is_locked(self, queue: QueueRef, own: QueueRef) -> bool:
        """Whether there are deliveries on the queue, and none that can be read."""
        if not await self._store.is_any_on(queue, own):
            return False
        now = self._parts.clock.now()
        page = await self._store.at(queue).until_answered(
            lambda store: store.messages.page(
                own, marker=None, limit=1, now=now, include_claimed=True
            )
        )
        return not page.messages

    def _bucket(self, taken: Taken, job: Replay, pace: Pace) -> Bucket | None:
        """The bucket as the jobs before this one left it; after a crash it counts as empty."""
        if pace.per_second is None:
            return None
        present, now = time.monotonic(), self._parts.clock.now()
        ready_at = job.ready_at
        is_fresh = taken.message.claim_count <= 1 and now < taken.due_at + timedelta(
            seconds=FRESH_SECONDS
        )
        if not is_fresh:
            ready_at = max(ready_at or now, now + timedelta(seconds=1 / pace.per_second))
        wait = None if ready_at is None else (ready_at - now).total_seconds()
        return Bucket(
            pace.per_second, now=present, ready_at=None if wait is None else present + wait
        )
