"""The delivery engine: a consumer of the service's own queues.

For each partition, those that only other processes know of included, it claims jobs from `outbox` and
deliveries from `retry`, makes the tries, writes down what is still owed, and only then deletes what
it claimed. A crash anywhere repeats work and loses none.

Memory is bounded whatever the backlog: from each internal queue at most `delivery_concurrency`
messages are in hand, in all at most `MAX_BYTES_IN_HAND` plus one claim per internal queue (32 posts
of at most `max_messages_post_size`); each byte is there up to three times (as stored, as a body, in
a payload). Of both a project has its share (`sharing`), so that its jobs do not stand before those of
others. Subscriptions are read page by page; while a project has all lanes that it may have and as
many of its rounds wait as there are lanes, no further one is looked at. So no more rounds wait than
jobs in hand times lanes, 150 bytes each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random as system_random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeAlias

from workers import leftovers
from workers.consumer import Consumer, Taken
from workers.courier import Courier, Receiver, Round, SinkFinder
from workers.duties import sweep_regularly
from workers.insist import Stop, insist
from workers.lanes import Lanes
from workers.replay import Replays
from workers.sharing import Budget
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import (
    FanOut,
    OwedDelivery,
    Replay,
    WrittenLater,
    later_record,
    left_by_earlier_releases,
    outgoing_messages,
    say_written_later,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.internal import outbox_ref, retry_ref
from zaqar_notify.metrics import Tally
from zaqar_notify.models import MessageType, QueueRef, Subscription
from zaqar_notify.partitions import partitions_in_use
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Storage, Watch
from zaqar_notify.subscribers import subscribed_queue

logger = logging.getLogger(__name__)

MAX_BYTES_IN_HAND = 64 << 20
SUBSCRIPTIONS_PER_PAGE = 100
ROUNDS_PER_DEFERRAL = 64

LOOK_SECONDS = 2.5
"""How often due work is looked for without having been told of it. The default lease and this make the
time after which a dead worker's deliveries begin again, at the latest."""

TURN_AWAY_SECONDS = 0.25
"""How often rounds that wait too long are looked for."""

RELEASE_SECONDS = 2.0
"""Time for giving back what is in hand, after the time to finish it is over."""

LONG_SINCE = datetime(1970, 1, 1, tzinfo=UTC)

CLOCK_SKEW = timedelta(seconds=5)
"""A subscription made so much later than a post, by two processes' clocks, is surely later."""


class Sinks(SinkFinder, Protocol):
    @property
    def troubles(self) -> Mapping[str, int]:
        """How many things an operator has to mend, by scheme."""

    async def close(self) -> None:
        """Let go of connections. Idempotent."""


class _Ended(Exception):
    """Ends the group of the engine's tasks."""


class _Load:
    """A fan-out job in hand, with its messages ready to be sent."""

    __slots__ = ("_job", "_most_hops", "cut", "parcels", "posted_by", "taken")

    def __init__(self, taken: Taken, job: FanOut, *, most_hops: int) -> None:
        self._job = job
        self._most_hops = most_hops
        self.cut: list[Subscription] = []
        """Of the queue subscriptions that a further hop would have led to, the first."""
        self.taken = taken
        self.parcels = outgoing_messages(job, since=taken.due_at)
        self.posted_by = taken.message.posted_at + CLOCK_SKEW

    @property
    def due(self) -> dict[str, datetime]:
        """By id, when those of its messages were due that were posted with a delay.

        A job that was put aside and given back has none any more. Whether a purge came before its
        messages were due can't be told then: they are taken for due long since.
        """
        is_delayed = self.taken.due_at > self.taken.message.posted_at
        at = self.taken.due_at if is_delayed else LONG_SINCE
        return {parcel.message_id: at for parcel in self.parcels if parcel.message.delay}

    def leave_out(self, ids: Set[str]) -> None:
        """Deliver nothing of these messages."""
        self.parcels = [parcel for parcel in self.parcels if parcel.message_id not in ids]

    def is_meant_for(self, subscription: Subscription) -> bool:
        """Whether it goes there: not to a queue that it crossed already, nor on beyond the last hop."""
        queue = subscribed_queue(subscription.subscriber)
        if queue is None:
            return True
        if queue == self._job.queue or queue in self._job.visited:
            return False
        if self._job.hops < self._most_hops:
            return True
        self.cut = self.cut or [subscription]
        return False


_Owed: TypeAlias = tuple[Taken, OwedDelivery]


class Engine:
    """Runs in one event loop; is the doorbell of that process too."""

    def __init__(
        self,
        storage: Storage,
        sinks: Sinks,
        *,
        clock: Clock,
        settings: Settings,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self._storage = storage
        self._sinks = sinks
        self._clock = clock
        self._settings = settings
        self._bytes_in_hand = Budget(MAX_BYTES_IN_HAND)
        self._stop = Stop()
        self._freed = asyncio.Event()
        self._ending = asyncio.Event()
        self._over = asyncio.Event()
        self._consuming = 0
        self._group: asyncio.TaskGroup | None = None
        self._lanes = Lanes(
            self._spawn,
            total=settings.delivery_concurrency,
            per_endpoint=settings.delivery_concurrency_per_endpoint,
            breaker_failures=settings.delivery_breaker_failures,
            random=random,
        )
        self._courier = Courier(
            storage,
            sinks,
            self._lanes,
            clock=clock,
            settings=settings,
            random=random,
            stop=self._stop,
        )
        self._replays = Replays(
            storage,
            self._courier,
            self._lanes,
            clock=clock,
            settings=settings,
            random=random,
            stop=self._stop,
            opened=self._open,
            closed=self._close,
        )
        self._by_partition: dict[int, tuple[Consumer, Consumer]] = {}
        self._consumers: list[Consumer] = []
        self._open_watches = contextlib.ExitStack()
        self._unknown_rang = asyncio.Event()

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Tries since the start, by scheme and verdict."""
        return self._courier.counts

    @property
    def written(self) -> Counter[str]:
        """Deliveries put off (retry), kept (held) and given up (undelivered) since the start."""
        return self._courier.written

    @property
    def dropped(self) -> Counter[str]:
        """Deliveries dropped since the start, by what became of their subscription."""
        return self._courier.dropped

    @property
    def delays(self) -> Mapping[str, Tally]:
        """By scheme: from when a delivery was due to when it arrived."""
        return self._courier.delays

    @property
    def in_flight(self) -> int:
        """Subscriptions that are being sent to right now."""
        return self._lanes.running

    @property
    def troubles(self) -> Mapping[str, int]:
        """How many things an operator has to mend before deliveries go on, by scheme."""
        return self._sinks.troubles

    @property
    def in_hand(self) -> int:
        """Jobs and deliveries that are claimed and not finished."""
        return sum(consumer.in_hand for consumer in self._consumers)

    def ring(self, partition: int) -> None:
        """Take jobs of the partition; what falls due in its retry queue is found without a ring."""
        if partition not in self._by_partition:
            self._unknown_rang.set()
            return
        outbox, _ = self._by_partition[partition]
        outbox.bell.set()

    async def run(self) -> None:
        """Deliver until `drain` is called. Closes the sinks at the end."""
        try:
            if self._stop.is_set():
                return
            with self._open_watches:
                async with asyncio.TaskGroup() as self._group:
                    self._begin()
                    await self._ending.wait()
                    raise _Ended
        except* _Ended:
            await self._give_back()
        finally:
            await self._sinks.close()
            self._over.set()
            self._freed.set()

    async def drain(self, timeout_seconds: float) -> None:
        """Stop claiming, let what is in hand finish for so long, give back the rest, and end `run`."""
        self._stop.set()
        for consumer in self._consumers:
            consumer.bell.set()
        self._freed.set()
        if self._group is None or self._over.is_set():
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                while (self.in_hand or self._consuming) and not self._over.is_set():
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            logger.warning(
                "Not everything was finished in time; it goes back",
                extra={"action": "drain_timeout", "in_hand": self.in_hand},
            )
        self._ending.set()
        await self._over.wait()

    def _begin(self) -> None:
        for partition in range(self._settings.delivery_partitions):
            self._take_on(partition)
        for ref in left_by_earlier_releases():
            self._begin_consumer(self._consumer(ref))
        self._spawn(self._take_on_others())
        self._spawn(self._renew_regularly())
        self._spawn(self._turn_away_regularly())
        self._spawn(
            sweep_regularly(
                self._storage, clock=self._clock, settings=self._settings, stop=self._stop
            )
        )
        self._spawn(
            leftovers.remove_regularly(
                self._storage, self._courier.forget, clock=self._clock, stop=self._stop
            )
        )

    def _take_on(self, partition: int) -> None:
        """Deliver what is owed in this partition, too."""
        both = self._consumer(outbox_ref(partition)), self._consumer(retry_ref(partition))
        self._by_partition[partition] = both
        for consumer in both:
            self._begin_consumer(consumer)

    def _begin_consumer(self, consumer: Consumer) -> None:
        self._consumers.append(consumer)
        self._consuming += 1
        watch = self._open_watches.enter_context(
            self._storage.messages.watch(consumer.ref, exclusive=True)
        )
        self._spawn(self._listen(consumer, watch))
        self._spawn(self._consume(consumer))

    async def _take_on_others(self) -> None:
        """Find the partitions of processes that were told another number of them, from time to time."""
        look = partial(partitions_in_use, self._storage, self._settings)
        while not self._stop.is_set():
            self._unknown_rang.clear()
            try:
                found = await insist(look, self._stop)
            except StorageUnavailable:
                return  # Only when stopping: see `insist`.
            if self._stop.is_set():
                return
            for partition in found:
                if partition not in self._by_partition:
                    self._take_on(partition)
            await _rung(self._unknown_rang)

    def _open(self, ref: QueueRef, freed: Callable[[], None]) -> Consumer:
        """A consumer that somebody else drives; its leases are renewed with the others."""

        def tell_freed() -> None:
            freed()
            self._tell_freed()

        consumer = self._consumer(ref, tell_freed)
        self._consumers.append(consumer)
        return consumer

    def _close(self, consumer: Consumer) -> None:
        self._consumers.remove(consumer)

    def _consumer(self, ref: QueueRef, freed: Callable[[], None] | None = None) -> Consumer:
        return Consumer(
            self._storage,
            ref,
            clock=self._clock,
            lease_seconds=self._settings.delivery_lease_seconds,
            most_in_hand=self._settings.delivery_concurrency,
            bytes_in_hand=self._bytes_in_hand,
            stop=self._stop,
            spawn=self._spawn,
            freed=freed or self._tell_freed,
        )

    def _tell_freed(self) -> None:
        self._freed.set()
        for consumer in self._consumers:
            consumer.look_again()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        assert self._group is not None  # noqa: S101 - nothing spawns before `run`
        self._group.create_task(work)

    async def _listen(self, consumer: Consumer, watch: Watch) -> None:
        """Ring the consumer's bell when its queue changes."""
        changed = partial(watch.changed, timeout_seconds=LOOK_SECONDS)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                has_changed = await insist(changed, self._stop)
            except StorageUnavailable:
                return  # Only when stopping: see `insist`.
            if has_changed:
                consumer.bell.set()
            elif time.monotonic() - began < LOOK_SECONDS / 2:
                return  # The store is closing, and answers at once from now on.

    async def _consume(self, consumer: Consumer) -> None:
        try:
            while not self._stop.is_set():
                consumer.bell.clear()
                room = await self._room_for(consumer)
                if self._stop.is_set():
                    return
                taken = await consumer.take(room)
                if self._stop.is_set():
                    await consumer.put_back(taken)
                    return
                self._start(taken)
                if len(taken) < room:
                    await _rung(consumer.bell)
        except StorageUnavailable:
            return  # Only when stopping: see `insist`.
        finally:
            self._consuming -= 1
            self._freed.set()

    async def _room_for(self, consumer: Consumer) -> int:
        """Wait until more may be in hand; return how many at once."""
        while not self._stop.is_set():
            if consumer.room and self._bytes_in_hand.free > 0:
                break
            self._freed.clear()
            await self._freed.wait()
        return consumer.room

    def _start(self, batch: Sequence[Taken]) -> None:
        """Begin the work of one claim; jobs of one queue share one look at its subscriptions."""
        loads: dict[QueueRef, list[_Load]] = {}
        owed: list[_Owed] = []
        for taken in batch:
            match taken.work:
                case FanOut() as job:
                    ref = QueueRef(job.project, job.queue)
                    loads.setdefault(ref, []).append(
                        _Load(taken, job, most_hops=self._settings.delivery_max_hops)
                    )
                case OwedDelivery() as delivery:
                    owed.append((taken, delivery))
                case Replay() as replay:
                    self._spawn(self._answering_for([taken], self._replays.run(taken, replay)))
                case WrittenLater(version=version):
                    self._spawn(self._answering_for([taken], self._leave(taken, version)))
                case None:
                    taken.part_fails()
        for ref, together in loads.items():
            self._spawn(
                self._answering_for([load.taken for load in together], self._fan_out(ref, together))
            )
        if owed:
            self._spawn(self._answering_for([taken for taken, _ in owed], self._redeliver(owed)))

    async def _answering_for(
        self, batch: Sequence[Taken], work: Coroutine[object, object, None]
    ) -> None:
        """Do the work and end its part of each job, one way or the other."""
        try:
            await work
        except Exception as error:  # Whatever it was: the jobs must not stay in hand for ever.
            if not isinstance(error, StorageUnavailable):
                logger.exception("A job failed", extra={"action": "job_failed"})
            for taken in batch:
                taken.part_fails()
        else:
            for taken in batch:
                taken.part_ends()

    async def _leave(self, taken: Taken, version: int) -> None:
        """Put a job where workers of its release look. Claimed here time and again, it would be poison."""
        say_written_later(version)
        await self._courier.write([later_record(taken.message.body, version)], project="")

    async def _fan_out(self, ref: QueueRef, loads: Sequence[_Load]) -> None:
        loads = await self._without_cancelled(ref, loads)
        marker: str | None = None
        while True:
            now = self._clock.now()
            page = await insist(
                partial(
                    self._storage.subscriptions.list,
                    ref,
                    marker=marker,
                    limit=SUBSCRIPTIONS_PER_PAGE,
                    now=now,
                ),
                self._stop,
            )
            turned_away: list[Round] = []
            for subscription in page:
                turned_away += await self._offer(subscription, loads)
                if len(turned_away) >= ROUNDS_PER_DEFERRAL:
                    await self._courier.defer(turned_away)
                    turned_away = []
                await self._lanes.room(ref.project)
            if turned_away:
                await self._courier.defer(turned_away)
            if len(page) < SUBSCRIPTIONS_PER_PAGE:
                break
            marker = page[-1].id
        for load in loads:
            for subscription in load.cut if load.taken.is_held else ():
                await self._courier.cut_short(load.parcels[0], subscription)

    async def _without_cancelled(self, ref: QueueRef, loads: Sequence[_Load]) -> Sequence[_Load]:
        """The jobs without the messages that were deleted before they were due."""
        for load in loads:
            if not load.due:
                continue
            look = partial(self._storage.messages.cancelled, ref, load.due)
            cancelled = await insist(look, self._stop)
            if cancelled:
                load.leave_out(cancelled)
                logger.debug(
                    "Messages were deleted before they were due; nobody is notified",
                    extra={
                        "action": "delivery_cancelled",
                        "queue": ref.name,
                        "count": len(cancelled),
                    },
                )
        return [load for load in loads if load.parcels]

    async def _offer(self, subscription: Subscription, loads: Sequence[_Load]) -> list[Round]:
        """Give the lanes what they take of the jobs for one subscription; return the rest."""
        if not self._courier.may_notify(subscription):
            return []
        # One made in the future was made before the clock was put back.
        is_old = subscription.created_at > self._clock.now() + CLOCK_SKEW
        meant = [
            load
            for load in loads
            if (is_old or subscription.created_at <= load.posted_by)
            and load.taken.is_held
            and load.is_meant_for(subscription)
        ]
        if subscription.disabled_at is not None:
            if meant:
                owed = [parcel for load in meant for parcel in load.parcels]
                await self._courier.hold(owed, subscription)
            return []
        receiver = self._courier.receiver(subscription)
        turned_away = []
        for load in meant:
            round_ = Round(self._courier, receiver, load.parcels, attempt=1, taken=load.taken)
            # Behind what is parked already: a replay fetches it in its turn.
            if subscription.replay_id is not None or not self._admitted(round_):
                turned_away.append(round_)
        return turned_away

    def _admitted(self, round_: Round) -> bool:
        if not self._lanes.admits(round_.endpoint):
            return False
        round_.taken.part_begins()
        self._lanes.submit(round_)
        return True

    async def _redeliver(self, batch: Sequence[_Owed]) -> None:
        receivers: dict[tuple[QueueRef, str], Receiver | None] = {}
        turned_away = []
        for taken, owed in batch:
            if not taken.is_held:
                continue
            ref = QueueRef(owed.project, owed.queue)
            key = (ref, owed.subscription_id)
            if key not in receivers:
                receivers[key] = await self._find_receiver(ref, owed.subscription_id)
            receiver = receivers[key]
            if receiver is None:
                self._courier.drop(owed, "gone")
                continue
            round_ = await self._round(taken, owed, receiver)
            if round_ is None:
                continue
            is_notification = owed.kind is MessageType.NOTIFICATION
            is_parked = is_notification and receiver.subscription.replay_id is not None
            if is_parked or not self._admitted(round_):
                turned_away.append(round_)
        if turned_away:
            await self._courier.defer(turned_away)

    async def _round(self, taken: Taken, owed: OwedDelivery, receiver: Receiver) -> Round | None:
        """The next try of a delivery, unless its subscription is not to be notified now."""
        subscription = receiver.subscription
        is_notification = owed.kind is MessageType.NOTIFICATION
        if is_notification and not self._courier.may_notify(subscription):
            self._courier.drop(owed, "unconfirmed")
            return None
        if subscription.confirmed and not is_notification:
            self._courier.drop(owed, "confirmed")
            return None
        if subscription.disabled_at is not None and is_notification:
            await self._courier.hold(outgoing_messages(owed), subscription)
            return None
        owed_parcels = outgoing_messages(owed, since=taken.due_at)
        return Round(self._courier, receiver, owed_parcels, attempt=owed.attempt, taken=taken)

    async def _find_receiver(self, ref: QueueRef, subscription_id: str) -> Receiver | None:
        subscription = await self._courier.find(ref, subscription_id)
        return None if subscription is None else self._courier.receiver(subscription)

    async def _renew_regularly(self) -> None:
        while not self._ending.is_set():
            await asyncio.sleep(self._settings.delivery_lease_seconds / 3)
            try:
                # Writes that are asked for together are one commit, where the store can do that.
                await asyncio.gather(*(consumer.renew() for consumer in self._consumers))
            except StorageUnavailable as error:
                self._stop.outage.met(error)

    async def _turn_away_regularly(self) -> None:
        while not self._ending.is_set():
            await asyncio.sleep(TURN_AWAY_SECONDS)
            overdue = [run for run in self._lanes.turn_away_overdue() if isinstance(run, Round)]
            if overdue:
                await self._answering_for(
                    [round_.taken for round_ in overdue], self._courier.defer(overdue)
                )

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                for consumer in list(self._consumers):
                    await consumer.give_back()
        except (StorageUnavailable, TimeoutError):
            logger.warning(
                "Not everything could be given back; it comes back when its lease lapses",
                extra={"action": "storage_unavailable"},
            )


async def _rung(bell: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await bell.wait()
    except TimeoutError:
        return
