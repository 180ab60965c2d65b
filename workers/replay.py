"""Delivering what waits for one subscription: what is parked, then what is held, oldest first.

Deliveries are parked, due, when their receiver fails, or has more before them than it takes in a minute.
They are not looked at again one by one: a *replay* fetches them at the receiver's pace. While the
receiver fails, the replay tries the oldest from time to time; tries of the others that fall due
meanwhile count as made. It is a job like others, so its lease makes it the only one in the cluster.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TypeAlias

import msgspec

from workers.consumer import MAX_PER_CLAIM, Consumer, Taken
from workers.courier import Courier, Receiver, Round
from workers.insist import Stop, insist
from workers.lanes import Lanes
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import (
    Outgoing,
    OwedDelivery,
    Replay,
    WrittenLater,
    later_record,
    outgoing_messages,
)
from zaqar_notify.internal import held_ref, parked_ref
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.retry import Schedule, attempt_after
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Storage

LONGEST_PAUSE_SECONDS = 60
"""Between two tries of a receiver that fails."""

GIVE_UP_PAUSE = 3
"""After many were given up at once, so many times as long as it took: others have work, too."""

Open: TypeAlias = Callable[[QueueRef, Callable[[], None]], Consumer]


class Replays:
    """Runs replay jobs. `opened` makes a consumer that tells when something was freed, `closed` ends it."""

    def __init__(
        self,
        storage: Storage,
        courier: Courier,
        lanes: Lanes,
        *,
        clock: Clock,
        settings: Settings,
        random: Callable[[], float],
        stop: Stop,
        opened: Open,
        closed: Callable[[Consumer], None],
    ) -> None:
        self.storage = storage
        self.courier = courier
        self.lanes = lanes
        self.clock = clock
        self.settings = settings
        self.random = random
        self.stop = stop
        self._opened = opened
        self._closed = closed

    async def run(self, taken: Taken, job: Replay) -> None:
        """Deliver until nothing waits, or leave the rest to a later job."""
        replay = _Replay(self, taken, job)
        for own in (parked_ref(job.subscription_id), held_ref(job.subscription_id)):
            with self._source(own) as source:
                if not await replay.empty(source):
                    return
        await replay.end()

    @contextmanager
    def _source(self, ref: QueueRef) -> Iterator[_Source]:
        freed = asyncio.Event()
        consumer = self._opened(ref, freed.set)
        try:
            yield _Source(consumer, freed)
        finally:
            self._closed(consumer)


class _Source:
    """A queue that is replayed, and what is in hand of it."""

    def __init__(self, consumer: Consumer, freed: asyncio.Event) -> None:
        self.consumer = consumer
        self._freed = freed

    async def finished(self, *, but: int = 0) -> None:
        """Wait until no more than so many are in hand."""
        while self.consumer.in_hand > but:
            self._freed.clear()
            await self._freed.wait()


class _Replay:
    """One replay job in hand."""

    def __init__(self, replays: Replays, taken: Taken, job: Replay) -> None:
        self._replays = replays
        self._courier = replays.courier
        self._lanes = replays.lanes
        self._taken = taken
        self._job = job
        self._ref = QueueRef(job.project, job.queue)

    async def empty(self, source: _Source) -> bool:
        """Deliver all that is on the queue. False: the rest is another job's, or nobody's."""
        while self._taken.is_held:
            subscription = await self._find()
            if subscription is None:
                return False
            if self._replays.stop.is_set():
                await self._come_back(subscription, delay=0)
                return False
            receiver = self._courier.receiver(subscription)
            if not await self._may_go_on(receiver, source):
                return False
            endpoint = receiver.endpoint
            batch = await source.consumer.take(max(1, endpoint.limit - endpoint.running))
            if not batch:
                return not await self._is_left_to_others(subscription, source.consumer.ref)
            await self._deliver(batch, source, receiver)
            if endpoint.is_suspect:
                await self._come_back_after_failure(subscription)
                return False
        return False

    async def end(self) -> None:
        """Nothing waits any more: deliveries go the usual way again."""
        subscription = await self._find()
        if subscription is None or subscription.replay_id is None:
            return
        await self._courier.update(subscription, _unnamed)
        # Whoever parked something before it saw that believed that it would be fetched.
        if await self._is_any_on(parked_ref(subscription.id)):
            await self._come_back(msgspec.structs.replace(subscription, replay_id=None), delay=1)

    async def _find(self) -> Subscription | None:
        """The subscription, if this replay is to go on with it."""
        subscription = await self._courier.find(self._ref, self._job.subscription_id)
        if subscription is None:
            return None
        is_surplus = self._job.id and subscription.replay_id not in (None, self._job.id)
        if is_surplus:
            return None
        if subscription.disabled_at is not None:
            # Who enables it orders a replay.
            if subscription.replay_id is not None:
                await self._courier.update(subscription, _unnamed)
            return None
        return subscription

    async def _may_go_on(self, receiver: Receiver, source: _Source) -> bool:
        """Whether the receiver can be tried now; if not, this comes back later."""
        if not receiver.endpoint.is_suspect and not self._lanes.is_paused(receiver.endpoint):
            return True
        await self._give_up_hopeless(receiver.subscription, source)
        if self._lanes.admits_probe(receiver.endpoint):
            return True
        await self._come_back(receiver.subscription, delay=self._spread(LONGEST_PAUSE_SECONDS))
        return False

    async def _deliver(self, batch: Sequence[Taken], source: _Source, receiver: Receiver) -> None:
        """Try each once, at the same time, and wait until what became of it is recorded."""
        hopeless, live = await self._sorted(batch, receiver.subscription)
        await self._give_up(hopeless, receiver.subscription)
        for taken, parcel, attempt in live:
            round_ = Round(
                self._courier, receiver, [parcel], attempt=attempt, taken=taken, insists=True
            )
            self._lanes.submit(round_)
        await source.finished()

    async def _give_up_hopeless(self, subscription: Subscription, source: _Source) -> None:
        """Give up those at the head of the queue whose last try counts as made, or that are too old."""
        while not self._replays.stop.is_set():
            began = time.monotonic()
            batch = await source.consumer.take(MAX_PER_CLAIM)
            if not batch:
                return
            hopeless, live = await self._sorted(batch, subscription)
            await self._give_up(hopeless, subscription)
            await source.finished(but=len(live))
            if live:
                await source.consumer.put_back([taken for taken, _, _ in live])
                return
            await self._replays.stop.pause(GIVE_UP_PAUSE * (time.monotonic() - began))

    async def _sorted(
        self, batch: Sequence[Taken], subscription: Subscription
    ) -> tuple[list[_Hopeless], list[_Live]]:
        """Those to be given up, and those to be tried, with the number of that try; others are dropped."""
        schedule = await self._courier.schedule(subscription)
        now = self._replays.clock.now()
        hopeless: list[_Hopeless] = []
        live: list[_Live] = []
        for taken in batch:
            match taken.work:
                case OwedDelivery() as owed if not self._courier.may_notify(subscription):
                    self._courier.drop(owed, "unconfirmed")
                    taken.part_ends()
                case OwedDelivery() as owed:
                    [parcel] = outgoing_messages(owed)
                    attempt = self._attempt(owed, schedule)
                    if attempt is None or self._courier.is_too_old(parcel, now):
                        hopeless.append((taken, parcel, attempt or schedule.retries + 1))
                    else:
                        live.append((taken, parcel, attempt))
                case WrittenLater(version=version):
                    later = later_record(taken.message.body, version)
                    await self._courier.write([later], project="")
                    taken.part_ends()
                case _:
                    taken.part_fails()
        return hopeless, live

    def _attempt(self, owed: OwedDelivery, schedule: Schedule) -> int | None:
        failed_at = self._job.failed_at
        if owed.due_at is None or failed_at is None:
            return owed.attempt
        return attempt_after(
            schedule, attempt=owed.attempt, due_at=owed.due_at, failed_at=failed_at
        )

    async def _give_up(self, hopeless: Sequence[_Hopeless], subscription: Subscription) -> None:
        if hopeless:
            await self._courier.give_up(
                [(parcel, tries) for _, parcel, tries in hopeless],
                subscription,
                "the receiver did not recover while they were owed",
            )
        for taken, _, _ in hopeless:
            taken.part_ends()

    async def _is_left_to_others(self, subscription: Subscription, ref: QueueRef) -> bool:
        """Whether some is under a lease: another replay is under way, or broke off. This one comes back
        when that has ended."""
        if not await self._is_any_on(ref):
            return False
        await self._come_back(subscription, delay=self._replays.settings.delivery_lease_seconds)
        return True

    async def _is_any_on(self, ref: QueueRef) -> bool:
        read = partial(
            self._replays.storage.messages.page,
            ref,
            marker=None,
            limit=1,
            now=self._replays.clock.now(),
            include_claimed=True,
        )
        return bool((await insist(read, self._replays.stop)).messages)

    async def _come_back_after_failure(self, subscription: Subscription) -> None:
        failures = self._job.failures + 1
        pause = min(LONGEST_PAUSE_SECONDS, 1 << min(failures, 6))
        await self._come_back(
            subscription,
            delay=self._spread(pause),
            failures=failures,
            failed_at=self._replays.clock.now(),
        )

    async def _come_back(
        self,
        subscription: Subscription,
        *,
        delay: int,
        failures: int | None = None,
        failed_at: datetime | None = None,
    ) -> None:
        """Leave the rest to a job that is due later; one named by the subscription is there already."""
        if not self._job.id and subscription.replay_id is not None:
            return
        replay_id = self._job.id or new_id()
        await self._courier.order_replay(
            subscription,
            delay=delay,
            replay_id=replay_id,
            failures=self._job.failures if failures is None else failures,
            failed_at=failed_at or self._job.failed_at,
        )
        if subscription.replay_id is None:
            await self._courier.update(subscription, partial(_named, replay_id))

    def _spread(self, seconds: int) -> int:
        return math.ceil(seconds * (1 + self._replays.random()) / 2)


_Hopeless: TypeAlias = tuple[Taken, Outgoing, int]
"""With the tries that it had."""

_Live: TypeAlias = tuple[Taken, Outgoing, int]
"""With the number of its next try."""


def _named(replay_id: str, subscription: Subscription) -> Subscription:
    return msgspec.structs.replace(subscription, replay_id=subscription.replay_id or replay_id)


def _unnamed(subscription: Subscription) -> Subscription:
    return msgspec.structs.replace(subscription, replay_id=None)
