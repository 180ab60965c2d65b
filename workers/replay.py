"""Replay: delivering the parked deliveries of one subscription, then the held ones, oldest first.

Deliveries are parked, due, when their receiver fails, or has more before them than it takes in a minute.
They are not looked at again one by one: a *replay* fetches them at the receiver's pace. While the
receiver fails, the replay probes it with the oldest from time to time; attempts of the others that fall due
meanwhile count as made. It is a job like others, so its lease makes it the only one in the cluster.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from workers.attempts import Batch
from workers.breakers import Breakers
from workers.consumer import MAX_PER_CLAIM, Consumer
from workers.consumers import Consumers
from workers.endpoints import Endpoint
from workers.outages import Stop
from workers.pacing.replay import PacedReplays
from workers.receivers import Receiver, Receivers
from workers.replay_jobs import LONGEST_PAUSE_SECONDS, ReplayJobs
from workers.slots import Slots
from workers.sorting import Sorting
from workers.store import RetryingStore
from workers.taken import Taken, working_on
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import OwedDelivery, Replay
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.pacing import pace_of
from zaqar_notify.storage.internal import held_ref, parked_ref

GIVE_UP_PAUSE = 3
"""After many were given up at once, so many times as long as it took: others have work, too."""


class Replays:
    def __init__(
        self,
        store: RetryingStore,
        paced: PacedReplays,
        consumers: Consumers,
        receivers: Receivers,
        slots: Slots[Batch],
        sorting: Sorting,
        replay_jobs: ReplayJobs,
        breakers: Breakers,
        *,
        clock: Clock,
        stop: Stop,
    ) -> None:
        self._store = store
        self._paced = paced
        self._consumers = consumers
        self._receivers = receivers
        self._slots = slots
        self._sorting = sorting
        self._jobs = replay_jobs
        self._breakers = breakers
        self._clock = clock
        self._stop = stop

    async def run(self, taken: Taken, job: Replay) -> None:
        """Deliver until nothing waits, or leave the rest to a later job."""
        with working_on([taken]):
            # Requests of an earlier pace may be under way.
            await self._paced.come_to_rest(job)
            queue = QueueRef(job.project, job.queue)
            subscription = await self._store.subscription(queue, job.subscription_id)
            if subscription is not None and pace_of(subscription.options) is not None:
                await self._paced.run(taken, job)
                return
            for own, until in _in_order(job):
                with self._consumers.opened(queue, own) as consumer:
                    if not await self._empty(consumer, taken, job, until):
                        return
            await self._jobs.end(job)

    async def _empty(
        self, consumer: Consumer, taken: Taken, job: Replay, until: datetime | None
    ) -> bool:
        """Deliver all that is on the queue, or was parked before an instant. False: the rest is left to another job, or
        there is no subscription any more."""
        while taken.is_held(self._clock.now()):
            subscription = await self._jobs.current(job)
            if subscription is None:
                return False
            if self._stop.is_set():
                await self._jobs.come_back(job, subscription, delay=0)
                return False
            receiver = self._receivers.of(subscription)
            endpoint = receiver.endpoint
            if job.failures and not endpoint.progress_at:
                # Another process knew: this one begins with a probe, too.
                endpoint.open(self._clock.now())
            if not await self._may_go_on(receiver, consumer, job):
                return False
            batch = await consumer.take(max(1, endpoint.limit - endpoint.running))
            if not batch:
                return not await self._jobs.is_left_to_others(consumer.ref, job, subscription)
            if until is not None:
                batch = await self._without_later(batch, consumer, until)
                if not batch:
                    return True
            wait = await self._seconds_until_try(endpoint)
            if wait:
                await consumer.in_hand.put_back(batch)
                delay = self._jobs.not_before(wait)
                await self._jobs.come_back(job, subscription, delay=delay)
                return False
            await self._deliver(batch, consumer, receiver, job)
            if endpoint.is_suspect:
                await self._come_back_after_failure(receiver, job)
                return False
        return False

    async def _may_go_on(self, receiver: Receiver, consumer: Consumer, job: Replay) -> bool:
        """Whether the receiver is left alone no more; if it is, this comes back later."""
        endpoint = receiver.endpoint
        seconds_paused = endpoint.wait_until - time.monotonic()
        if not endpoint.is_suspect and seconds_paused <= 0:
            return True
        await self._give_up_hopeless(receiver.subscription, consumer, job)
        wait = max(endpoint.seconds_open(self._clock.now()), seconds_paused)
        if wait <= 0:
            return True
        delay = self._jobs.not_before(wait)
        await self._jobs.come_back(job, receiver.subscription, delay=delay)
        return False

    async def _seconds_until_try(self, endpoint: Endpoint) -> float:
        """0, unless it is to be probed and this is not the one to do that."""
        if not endpoint.is_suspect:
            return 0.0
        if not self._slots.admits_probe(endpoint):
            return LONGEST_PAUSE_SECONDS / 2
        return await self._breakers.seconds_until_probe(endpoint)

    async def _deliver(
        self, batch: Sequence[Taken], consumer: Consumer, receiver: Receiver, job: Replay
    ) -> None:
        """Try each once, at the same time, and wait until the results are recorded."""
        live = await self._sorting.sort(batch, receiver.subscription, job)
        for taken, message, attempt in live:
            with taken:
                self._slots.submit(Batch(receiver, [message], attempt, taken, is_patient=True))
        await consumer.in_hand.down_to(0)

    async def _without_later(
        self, batch: list[Taken], consumer: Consumer, until: datetime
    ) -> list[Taken]:
        """Put back those that were parked after the instant, which are the last ones; return the others."""
        earlier = sum(not _is_parked_after(until, each) for each in batch)
        if earlier == len(batch):
            return batch
        await consumer.in_hand.put_back(batch)
        return await consumer.take(earlier) if earlier else []

    async def _give_up_hopeless(
        self, subscription: Subscription, consumer: Consumer, job: Replay
    ) -> None:
        """Give up those at the head of the queue whose last try counts as made, or that are too old."""
        while not self._stop.is_set():
            began = time.monotonic()
            batch = await consumer.take(MAX_PER_CLAIM)
            if not batch:
                return
            live = await self._sorting.sort(batch, subscription, job)
            await consumer.in_hand.down_to(len(live))
            if live:
                await consumer.in_hand.put_back([taken for taken, _, _ in live])
                return
            await self._stop.pause(GIVE_UP_PAUSE * (time.monotonic() - began))

    async def _come_back_after_failure(self, receiver: Receiver, job: Replay) -> None:
        failures = job.failures + 1
        pause = self._jobs.spread(min(LONGEST_PAUSE_SECONDS, 1 << min(failures, 6)))
        self._breakers.opened(receiver.endpoint, pause)
        await self._jobs.come_back(
            job,
            receiver.subscription,
            delay=pause,
            failures=failures,
            failed_at=self._clock.now(),
        )


def _in_order(job: Replay) -> Sequence[tuple[QueueRef, datetime | None]]:
    """The queues that the replay empties, one after the other; of the first one perhaps the deliveries that were parked
    before an instant. Since a pause ended, new deliveries are parked: they come after those that were held meanwhile."""
    parked, held = parked_ref(job.subscription_id), held_ref(job.subscription_id)
    if job.resumed_at is None:
        return ((parked, None), (held, None))
    return ((parked, job.resumed_at), (held, None), (parked, None))


def _is_parked_after(instant: datetime, taken: Taken) -> bool:
    owed = taken.work
    return isinstance(owed, OwedDelivery) and owed.due_at is not None and owed.due_at >= instant
