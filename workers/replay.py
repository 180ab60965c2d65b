"""Replay: delivering the parked deliveries of one subscription, then the held ones, oldest first.

Deliveries are parked, due, when their receiver fails, or has more before them than it takes in a minute.
They are not looked at again one by one: a *replay* fetches them at the receiver's pace. While the
receiver fails, the replay probes it with the oldest from time to time; attempts of the others that fall due
meanwhile count as made. It is a job like others, so its lease makes it the only one in the cluster.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from workers.attempts import Batch
from workers.consumer import MAX_PER_CLAIM, Consumer
from workers.consumers import Consumers
from workers.ledger import Ledger
from workers.outages import Stop
from workers.receivers import Receiver, Receivers
from workers.recorder import Recorder
from workers.replay_jobs import ReplayJobs
from workers.retries import Retries
from workers.slots import Slots
from workers.store import RetryingStore
from workers.taken import Taken, part_of_each, working_on
from workers.untried import Untried
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import (
    Outgoing,
    OwedDelivery,
    Replay,
    WrittenLater,
    later_record,
    outgoing_messages,
)
from zaqar_notify.models import Subscription
from zaqar_notify.rules.retry import Schedule, attempt_after
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import held_ref, parked_ref

LONGEST_PAUSE_SECONDS = 60
"""Between two attempts at a receiver that fails."""

GIVE_UP_PAUSE = 3
"""After many were given up at once, so many times as long as it took: others have work, too."""

_Numbered: TypeAlias = tuple[Taken, Outgoing, int]
"""A delivery that is to be tried, with the number of its next attempt; or to be given up, with the attempts
that it had."""


class Replays:
    def __init__(
        self,
        store: RetryingStore,
        consumers: Consumers,
        receivers: Receivers,
        slots: Slots[Batch],
        retries: Retries,
        ledger: Ledger,
        untried: Untried,
        replay_jobs: ReplayJobs,
        recorder: Recorder,
        *,
        clock: Clock,
        settings: Settings,
        random: Callable[[], float],
        stop: Stop,
    ) -> None:
        self._store = store
        self._consumers = consumers
        self._receivers = receivers
        self._slots = slots
        self._retries = retries
        self._ledger = ledger
        self._untried = untried
        self._jobs = replay_jobs
        self._recorder = recorder
        self._clock = clock
        self._lease_seconds = settings.delivery_lease_seconds
        self._random = random
        self._stop = stop

    async def run(self, taken: Taken, job: Replay) -> None:
        """Deliver until nothing waits, or leave the rest to a later job."""
        with working_on([taken]):
            for own in (parked_ref(job.subscription_id), held_ref(job.subscription_id)):
                with self._consumers.opened(taken.pool, own) as consumer:
                    if not await self._empty(consumer, taken, job):
                        return
            await self._jobs.end(taken.pool, job)

    async def _empty(self, consumer: Consumer, taken: Taken, job: Replay) -> bool:
        """Deliver all that is on the queue. False: the rest is left to another job, or there is no subscription any more."""
        while taken.is_held:
            subscription = await self._jobs.current(job)
            if subscription is None:
                return False
            if self._stop.is_set():
                await self._jobs.come_back(consumer.pool, job, subscription, delay=0)
                return False
            receiver = self._receivers.of(subscription)
            if not await self._may_go_on(receiver, consumer, job):
                return False
            endpoint = receiver.endpoint
            batch = await consumer.take(max(1, endpoint.limit - endpoint.running))
            if not batch:
                return not await self._is_left_to_others(subscription, consumer, job)
            await self._deliver(batch, consumer, receiver, job)
            if endpoint.is_suspect:
                await self._come_back_after_failure(subscription, consumer.pool, job)
                return False
        return False

    async def _may_go_on(self, receiver: Receiver, consumer: Consumer, job: Replay) -> bool:
        """Whether the receiver can be tried now; if not, this comes back later."""
        endpoint = receiver.endpoint
        if not endpoint.is_suspect and not endpoint.is_paused(time.monotonic()):
            return True
        await self._give_up_hopeless(receiver.subscription, consumer, job)
        if self._slots.admits_probe(endpoint):
            return True
        delay = self._spread(LONGEST_PAUSE_SECONDS)
        await self._jobs.come_back(consumer.pool, job, receiver.subscription, delay=delay)
        return False

    async def _deliver(
        self, batch: Sequence[Taken], consumer: Consumer, receiver: Receiver, job: Replay
    ) -> None:
        """Try each once, at the same time, and wait until the results are recorded."""
        hopeless, live = await self._sorted(batch, receiver.subscription, job)
        await self._give_up(hopeless, receiver.subscription)
        for taken, message, attempt in live:
            with taken:
                self._slots.submit(Batch(receiver, [message], attempt, taken, is_patient=True))
        await consumer.in_hand.down_to(0)

    async def _give_up_hopeless(
        self, subscription: Subscription, consumer: Consumer, job: Replay
    ) -> None:
        """Give up those at the head of the queue whose last try counts as made, or that are too old."""
        while not self._stop.is_set():
            began = time.monotonic()
            batch = await consumer.take(MAX_PER_CLAIM)
            if not batch:
                return
            hopeless, live = await self._sorted(batch, subscription, job)
            await self._give_up(hopeless, subscription)
            await consumer.in_hand.down_to(len(live))
            if live:
                await consumer.in_hand.put_back([taken for taken, _, _ in live])
                return
            await self._stop.pause(GIVE_UP_PAUSE * (time.monotonic() - began))

    async def _sorted(
        self, batch: Sequence[Taken], subscription: Subscription, job: Replay
    ) -> tuple[list[_Numbered], list[_Numbered]]:
        """Those to be given up, and those to be tried; others are dropped."""
        schedule = await self._retries.schedule(subscription)
        now = self._clock.now()
        hopeless: list[_Numbered] = []
        live: list[_Numbered] = []
        for taken in batch:
            match taken.work:
                case OwedDelivery() as owed if not self._receivers.may_notify(subscription):
                    with taken:
                        self._recorder.dropped(owed, "unconfirmed")
                case OwedDelivery() as owed:
                    [message] = outgoing_messages(owed)
                    attempt = _attempt(owed, job, schedule)
                    if attempt is None or self._retries.is_too_old(message, now):
                        hopeless.append((taken, message, attempt or schedule.retries + 1))
                    else:
                        live.append((taken, message, attempt))
                case WrittenLater(version=version):
                    with taken:
                        later = later_record(taken.message.body, version)
                        await self._ledger.write(taken.pool, [later], project="")
                case _:
                    taken.fail_part()
        return hopeless, live

    async def _give_up(self, hopeless: Sequence[_Numbered], subscription: Subscription) -> None:
        if not hopeless:
            return
        with part_of_each(taken for taken, _, _ in hopeless):
            await self._untried.give_up(
                hopeless[0][0].pool,
                [(message, attempts) for _, message, attempts in hopeless],
                subscription,
                "the receiver did not recover while they were owed",
            )

    async def _is_left_to_others(
        self, subscription: Subscription, consumer: Consumer, job: Replay
    ) -> bool:
        """Whether some is under a lease: another replay is under way, or broke off. This one comes back
        when that has ended."""
        if not await self._store.is_any_on(consumer.pool, consumer.ref):
            return False
        await self._jobs.come_back(consumer.pool, job, subscription, delay=self._lease_seconds)
        return True

    async def _come_back_after_failure(
        self, subscription: Subscription, pool: str, job: Replay
    ) -> None:
        failures = job.failures + 1
        pause = min(LONGEST_PAUSE_SECONDS, 1 << min(failures, 6))
        await self._jobs.come_back(
            pool,
            job,
            subscription,
            delay=self._spread(pause),
            failures=failures,
            failed_at=self._clock.now(),
        )

    def _spread(self, seconds: int) -> int:
        return math.ceil(seconds * (1 + self._random()) / 2)


def _attempt(owed: OwedDelivery, job: Replay, schedule: Schedule) -> int | None:
    """The number of its next attempt; None: the last one counts as made."""
    if owed.due_at is None or job.failed_at is None:
        return owed.attempt
    return attempt_after(
        schedule, attempt=owed.attempt, due_at=owed.due_at, failed_at=job.failed_at
    )
