"""Making a try, and recording what became of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec

from sinks.shortage import is_shortage
from workers import telling
from workers.consumer import Taken
from workers.endpoints import Endpoint
from workers.insist import Stop, insist
from workers.lanes import LONGEST_DEFERRAL_SECONDS, Lanes
from zaqar_notify.clock import Clock, host_now, new_id
from zaqar_notify.delivery import (
    Outgoing,
    Owed,
    OwedDelivery,
    Record,
    by_queue,
    delivery_id,
    held_record,
    link_expires_at,
    parked_record,
    replay_job,
    retry_record,
    too_many_hops,
    undelivered_record,
)
from zaqar_notify.errors import SubscriptionDoesNotExist
from zaqar_notify.internal import held_ref, parked_ref, queues_of_subscription
from zaqar_notify.kinds import Sink
from zaqar_notify.metrics import DELIVERY_SECONDS, Tally
from zaqar_notify.models import (
    Delivery,
    MessageType,
    NewMessage,
    Outcome,
    QueueRef,
    Subscription,
    Verdict,
)
from zaqar_notify.retry import Schedule, applicable_schedule, default_schedule, next_attempt_at
from zaqar_notify.settings import Settings
from zaqar_notify.signing import webhook_secrets
from zaqar_notify.storage.base import Storage

logger = logging.getLogger(__name__)

FIRST_PROBE_SECONDS = 1
SHORTAGE_PAUSE_SECONDS = 5
SHORTAGE_TOLD_SECONDS = 60.0
"""How long a receiver is left alone when we could not reach it for want of files or memory; how often
that is told at most."""

MAX_POST_BYTES = 1 << 20
MAX_POST_MESSAGES = 500
"""Records are written in posts of at most so many bytes (or one record) and messages."""


class SinkFinder(Protocol):
    def for_subscriber(self, uri: str) -> Sink | None:
        """The sink for a subscriber URI, if there is one."""


class Receiver:
    """A subscription, as a batch of jobs needs it; read again for every batch."""

    __slots__ = (
        "endpoint",
        "failures",
        "is_gone",
        "scheme",
        "secrets",
        "sink",
        "subscription",
    )

    def __init__(
        self, subscription: Subscription, sink: Sink | None, secrets: list[str], endpoint: Endpoint
    ) -> None:
        self.subscription = subscription
        self.sink = sink
        self.secrets = secrets
        self.endpoint = endpoint
        self.scheme = subscription.subscriber.partition(":")[0].lower()
        self.failures = telling.Failures()
        """In a row, before it last answered."""
        self.is_gone = False
        """The receiver said, during this batch, that it wants no more."""


class Round:
    """One job's messages on their way to one receiver, one after the other: a run for the lanes."""

    __slots__ = (
        "_courier",
        "attempt",
        "endpoint",
        "insists",
        "offered_at",
        "parcels",
        "receiver",
        "taken",
    )

    def __init__(
        self,
        courier: Courier,
        receiver: Receiver,
        parcels: Sequence[Outgoing],
        *,
        attempt: int,
        taken: Taken,
        insists: bool = False,
    ) -> None:
        self._courier = courier
        self.insists = insists
        self.receiver = receiver
        self.parcels = parcels
        self.attempt = attempt
        self.taken = taken
        self.endpoint = receiver.endpoint
        self.offered_at = 0.0

    async def go(self) -> None:
        """Try each message once and record what is still owed; then the job's part is done."""
        try:
            await self._courier.go_round(self)
        except Exception:  # Whatever it was: the job must not stay in hand for ever.
            self.taken.part_fails()
            raise
        self.taken.part_ends()


class Courier:
    def __init__(
        self,
        storage: Storage,
        sinks: SinkFinder,
        lanes: Lanes,
        *,
        clock: Clock,
        settings: Settings,
        random: Callable[[], float],
        stop: Stop,
    ) -> None:
        self._storage = storage
        self._sinks = sinks
        self._lanes = lanes
        self._clock = clock
        self._settings = settings
        self._random = random
        self._stop = stop
        self._replay_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tell_shortage_at = 0.0
        self._webhook_secret = settings.webhook_secret.get_secret_value()
        self.counts: Counter[tuple[str, str]] = Counter()
        """Tries by scheme and verdict, since the start."""
        self.delays: dict[str, Tally] = {}
        """By scheme: from when a delivery was due to when it arrived."""
        self.written: Counter[str] = Counter(retry=0, parked=0, held=0, undelivered=0, later=0)
        """Records written since the start, by kind of internal queue."""
        self.dropped = Counter(dict.fromkeys(telling.DROPPED, 0))
        """Deliveries dropped since the start, by reason."""

    def receiver(self, subscription: Subscription) -> Receiver:
        return Receiver(
            subscription,
            self._sinks.for_subscriber(subscription.subscriber),
            webhook_secrets(
                self._webhook_secret,
                subscription,
                now=self._clock.now(),
                overlap_seconds=self._settings.webhook_secret_overlap_seconds,
            ),
            self._lanes.endpoint(subscription.queue.project, subscription.subscriber),
        )

    def may_notify(self, subscription: Subscription) -> bool:
        return subscription.confirmed or not self._settings.require_confirmation

    def drop(self, owed: OwedDelivery, reason: str) -> None:
        """Leave a delivery out for good; it is counted and told."""
        self.dropped[reason] += 1
        telling.dropped(owed, reason)

    async def go_round(self, round_: Round) -> None:
        """Try each message and record what is still owed, unless the job is somebody else's by then:
        who does all of it anew."""
        records: list[Record] = []
        receiver = round_.receiver
        for number, parcel in enumerate(round_.parcels):
            if not round_.taken.is_held:
                return
            if receiver.is_gone:
                records.append(self._held(parcel, receiver.subscription))
                continue
            if receiver.endpoint.is_paused(time.monotonic()):
                records += self._deferred(round_.parcels[number:], receiver, round_.attempt)
                break
            delivery = self._delivery(parcel, receiver, round_.attempt)
            was_suspect = receiver.endpoint.is_suspect
            outcome = await self._try(delivery, receiver)
            if outcome.verdict is Verdict.DELIVERED:
                self._note_delay(parcel, receiver.scheme)
                continue
            if outcome.verdict is Verdict.POSTPONED:
                records += self._postponed(round_, number, outcome)
                break
            records.append(
                await self._owed_after(outcome, delivery, parcel, receiver, was_suspect=was_suspect)
            )
            if receiver.endpoint.is_suspect:
                rest = round_.parcels[number + 1 :]
                records += self._deferred(rest, receiver, round_.attempt)
                break
        if records and round_.taken.is_held:
            await self._write_of(receiver.subscription, records)

    async def defer(self, rounds: Iterable[Round]) -> None:
        """Write rounds that can't start now to the retry queue, or park them; their attempt number stays."""
        owed: dict[str, tuple[Subscription, list[Record]]] = {}
        for round_ in rounds:
            if round_.taken.is_held:
                subscription = round_.receiver.subscription
                _, records = owed.setdefault(subscription.id, (subscription, []))
                records += self._deferred(round_.parcels, round_.receiver, round_.attempt)
        # Together, so that the store can write them together.
        await asyncio.gather(*(self._write_of(*each) for each in owed.values()))

    async def hold(self, parcels: Iterable[Outgoing], subscription: Subscription) -> None:
        """Keep deliveries for a disabled subscription until they are replayed."""
        await self._write_of(subscription, [self._held(parcel, subscription) for parcel in parcels])

    async def give_up(
        self, given_up: Sequence[tuple[Outgoing, int]], subscription: Subscription, detail: str
    ) -> None:
        """Record deliveries that are given up untried, after so many tries each; they are told as one."""
        now = self._clock.now()
        outcome = Outcome(Verdict.TRY_LATER, detail=detail)
        records = [
            undelivered_record(parcel, subscription, outcome=outcome, attempts=tries, now=now)
            for parcel, tries in given_up
        ]
        telling.given_up_together(subscription, detail, count=len(records))
        await self._write_of(subscription, records)

    async def cut_short(self, parcel: Outgoing, subscription: Subscription) -> None:
        """Record that a job's messages go no further by queue subscriptions, once for all of them."""
        outcome = too_many_hops(parcel.hops)
        logger.warning(
            "Messages crossed as many queues as they may, and go no further by queue subscriptions",
            extra={
                "action": "hops_exceeded",
                "message_id": parcel.message_id,
                "subscription_id": subscription.id,
                "project": subscription.queue.project,
                "queue": subscription.queue.name,
                "hops": parcel.hops,
                "request_id": parcel.request_id,
            },
        )
        now = self._clock.now()
        record = undelivered_record(parcel, subscription, outcome=outcome, attempts=0, now=now)
        await self._write_of(subscription, [record])

    async def order_replay(
        self,
        subscription: Subscription,
        *,
        delay: int = 0,
        replay_id: str = "",
        failures: int = 0,
        failed_at: datetime | None = None,
    ) -> None:
        """Have what is parked and held for it delivered, `delay` seconds from now."""
        ref, job = replay_job(
            subscription,
            self._settings,
            delay=delay,
            replay_id=replay_id,
            failures=failures,
            failed_at=failed_at,
        )
        await insist(partial(self._post, ref, [job], subscription.queue.project), self._stop)

    async def write(self, records: Iterable[Record], *, project: str) -> None:
        """Store records of one project durably; perhaps twice when the store failed in between.

        Raises:
            StorageUnavailable: The worker stops, and the store gives no answer.
        """
        for ref, messages in by_queue(records).items():
            for portion in _portions(messages):
                await insist(partial(self._post, ref, portion, project), self._stop)
                self.written[ref.name.partition(".")[0]] += len(portion)

    async def _write_of(self, subscription: Subscription, records: Sequence[Record]) -> None:
        """Store what is owed to one subscription, and see to it that somebody will look at it."""
        await self.write(records, project=subscription.queue.project)
        own = {ref for ref, _ in records}.intersection(queues_of_subscription(subscription.id))
        if own:
            await self._look_after(subscription, own)

    async def _look_after(self, subscription: Subscription, own: Collection[QueueRef]) -> None:
        """See to records on the subscription's own queues; it may have changed meanwhile.

        Who removed it took its records away before these came; who enabled it had replayed what was
        held before; whose replay found nothing parked has ended.
        """
        current = await self.find(subscription.queue, subscription.id)
        if current is None:
            await self.forget(subscription.queue, subscription.id)
        elif parked_ref(subscription.id) in own:
            await self._see_to_replay(current)
        elif held_ref(subscription.id) in own and current.disabled_at is None:
            await self.order_replay(current)

    async def forget(self, queue: QueueRef, subscription_id: str) -> None:
        """Drop what waits for a subscription that is gone; it is counted and told."""
        now = self._clock.now()
        count = 0
        for ref in (parked_ref(subscription_id), held_ref(subscription_id)):
            stats = await insist(partial(self._storage.queues.stats, ref, now=now), self._stop)
            count += stats.total
        for ref in queues_of_subscription(subscription_id):
            await insist(partial(self._storage.queues.delete, ref, now=now), self._stop)
        if count:
            self.dropped["gone"] += count
            telling.dropped_together(queue, subscription_id, count=count)

    async def _see_to_replay(self, subscription: Subscription) -> None:
        """Have a replay for what is parked, unless there is one.

        It is stored before the subscription names it: of two processes that come at once, the replay
        that is not named ends by itself.
        """
        if subscription.replay_id is not None:
            return
        lock = self._replay_locks.setdefault(subscription.id, asyncio.Lock())
        async with lock:
            current = await self.find(subscription.queue, subscription.id)
            if current is None or current.replay_id is not None:
                return
            replay_id = new_id()
            await self.order_replay(current, delay=FIRST_PROBE_SECONDS, replay_id=replay_id)

            def named(present: Subscription) -> Subscription:
                return msgspec.structs.replace(present, replay_id=present.replay_id or replay_id)

            await self.update(current, named)

    async def find(self, ref: QueueRef, subscription_id: str) -> Subscription | None:
        get = self._storage.subscriptions.get
        return await insist(lambda: get(ref, subscription_id, now=self._clock.now()), self._stop)

    async def update(
        self, subscription: Subscription, change: Callable[[Subscription], Subscription]
    ) -> None:
        """Change the subscription as it is now; none, if it is gone."""
        update = partial(
            self._storage.subscriptions.update,
            subscription.queue,
            subscription.id,
            change,
            now=self._clock.now(),
        )
        with suppress(SubscriptionDoesNotExist):
            await insist(update, self._stop)

    async def _post(self, ref: QueueRef, messages: list[NewMessage], project: str) -> None:
        owed = Owed(messages, project=project)
        await self._storage.messages.post(ref, owed, now=self._clock.now())

    def _delivery(self, parcel: Outgoing, receiver: Receiver, attempt: int) -> Delivery:
        subscription = receiver.subscription
        return Delivery(
            id=delivery_id(subscription.id, parcel.message_id),
            kind=parcel.kind,
            subscription=subscription,
            message_id=parcel.message_id,
            payload=parcel.payload,
            message=parcel.message,
            attempt=attempt,
            sent_at=host_now(self._clock),
            secrets=receiver.secrets,
            hops=parcel.hops,
            request_id=parcel.request_id,
            visited=parcel.visited,
            origin=parcel.origin,
        )

    async def _try(self, delivery: Delivery, receiver: Receiver) -> Outcome:
        began = time.monotonic()
        outcome = await self._ask(receiver.sink, delivery)
        ended = time.monotonic()
        endpoint = receiver.endpoint
        if outcome.verdict is not Verdict.POSTPONED:
            self._learn(outcome, receiver, seconds=ended - began, now=ended)
        if outcome.retry_after_seconds:
            if outcome.verdict is not Verdict.POSTPONED and not endpoint.is_paused(ended):
                telling.paused(receiver.subscription, seconds=outcome.retry_after_seconds)
            endpoint.pause(outcome.retry_after_seconds, now=ended)
        self.counts[receiver.scheme, outcome.verdict.value] += 1
        telling.tried(outcome, delivery)
        return outcome

    def _note_delay(self, parcel: Outgoing, scheme: str) -> None:
        if parcel.since is None:
            return
        tally = self.delays.get(scheme)
        if tally is None:
            tally = self.delays[scheme] = Tally(DELIVERY_SECONDS)
        tally.note(max(0.0, (self._clock.now() - parcel.since).total_seconds()))

    def _learn(self, outcome: Outcome, receiver: Receiver, *, seconds: float, now: float) -> None:
        """How the receiver is doing; that it begins to fail or recovers is told."""
        endpoint = receiver.endpoint
        was_suspect = endpoint.is_suspect
        answered = outcome.verdict is not Verdict.TRY_LATER
        if answered and endpoint.failures:
            since = host_now(self._clock) - timedelta(seconds=now - endpoint.failing_since)
            receiver.failures = telling.Failures(endpoint.failures, since)
        endpoint.tried(succeeded=answered, seconds=seconds, now=now)
        if endpoint.is_suspect and not was_suspect:
            telling.suspect(receiver.subscription)
        elif was_suspect and not endpoint.is_suspect and outcome.verdict is not Verdict.GONE:
            telling.recovered(receiver.subscription, receiver.failures)

    async def _ask(self, sink: Sink | None, delivery: Delivery) -> Outcome:
        if sink is None:
            scheme = delivery.subscription.subscriber.partition(":")[0]
            return Outcome(Verdict.REFUSED, detail=f"{scheme[:40]} is not in subscriber_types")
        try:
            return await sink.deliver(delivery)
        except Exception as error:  # A defect in a sink costs its own deliveries only.
            if is_shortage(error):
                return self._postponed_for_want(error)
            logger.exception(
                "A sink failed", extra={"action": "sink_failed", "delivery_id": delivery.id}
            )
            return Outcome(Verdict.TRY_LATER, detail=f"the sink failed: {type(error).__name__}")

    def _postponed_for_want(self, error: Exception) -> Outcome:
        """We lack files or memory: the receiver is not blamed, and the operator told, not each time."""
        now = time.monotonic()
        detail = str(error) or type(error).__name__
        if now >= self._tell_shortage_at:
            self._tell_shortage_at = now + SHORTAGE_TOLD_SECONDS
            telling.short_of_resources(detail)
        return Outcome(Verdict.POSTPONED, detail=detail, retry_after_seconds=SHORTAGE_PAUSE_SECONDS)

    async def _owed_after(
        self,
        outcome: Outcome,
        delivery: Delivery,
        parcel: Outgoing,
        receiver: Receiver,
        *,
        was_suspect: bool,
    ) -> Record:
        """What is to be remembered of a try that did not deliver; it is told, too."""
        subscription, attempt = receiver.subscription, delivery.attempt
        if outcome.verdict is Verdict.GONE:
            receiver.is_gone = True
            await self._disable(receiver, outcome)
            return self._held(parcel, subscription)
        delay = await self._retry_delay(outcome, parcel, subscription, attempt)
        if delay is None:
            telling.given_up(outcome, delivery)
            return undelivered_record(
                parcel, subscription, outcome=outcome, attempts=attempt, now=self._clock.now()
            )
        telling.failed(outcome, delivery, next_try_seconds=delay, is_suspect=was_suspect)
        return retry_record(
            parcel, subscription, attempt=attempt + 1, delay=delay, settings=self._settings
        )

    async def _retry_delay(
        self, outcome: Outcome, parcel: Outgoing, subscription: Subscription, attempt: int
    ) -> int | None:
        """Seconds until the next attempt, or None when there is to be none."""
        schedule = await self.schedule(subscription)
        now = self._clock.now()
        at = next_attempt_at(
            schedule,
            attempt=attempt,
            outcome=outcome,
            now=now,
            jitter=self._settings.retry_jitter,
            random=self._random,
        )
        if at is None or self._is_over(parcel, at):
            return None
        return round((at - now).total_seconds())

    async def schedule(self, subscription: Subscription) -> Schedule:
        queue = await insist(partial(self._storage.queues.get, subscription.queue), self._stop)
        return applicable_schedule(
            subscription.options,
            {} if queue is None else queue.metadata,
            default=default_schedule(self._settings.retry_default, subscription.subscriber),
        )

    def _is_over(self, parcel: Outgoing, at: datetime) -> bool:
        """Whether a try at that instant would come too late: it is too old, or its link has ended."""
        useless_at = link_expires_at(parcel)
        return (useless_at is not None and at >= useless_at) or self.is_too_old(parcel, at)

    def is_too_old(self, parcel: Outgoing, at: datetime) -> bool:
        """Whether it will have been owed at `at` for as long as it may be."""
        most = timedelta(seconds=self._settings.delivery_max_age_seconds)
        return parcel.since is not None and at >= parcel.since + most

    async def _disable(self, receiver: Receiver, outcome: Outcome) -> None:
        subscription = receiver.subscription
        now = self._clock.now()

        def disabled(current: Subscription) -> Subscription:
            if current.subscriber != subscription.subscriber:
                return current  # Another receiver by now, who said nothing of the kind.
            return msgspec.structs.replace(current, disabled_at=now)

        update = partial(
            self._storage.subscriptions.update,
            subscription.queue,
            subscription.id,
            disabled,
            now=now,
        )
        try:
            after = await insist(update, self._stop)
        except SubscriptionDoesNotExist:
            return
        if after.disabled_at == now:
            telling.disabled(after, outcome, receiver.failures)

    def _held(self, parcel: Outgoing, subscription: Subscription) -> Record:
        return held_record(parcel, subscription, now=self._clock.now())

    def _postponed(self, round_: Round, number: int, outcome: Outcome) -> list[Record]:
        """The round's parcels from this number on: they come back with their attempt unspent, unless it
        would be too late then."""
        subscription, now = round_.receiver.subscription, self._clock.now()
        delay = max(1, outcome.retry_after_seconds or 0)
        over = [
            parcel
            for parcel in round_.parcels[number:]
            if self._is_over(parcel, now + timedelta(seconds=delay))
        ]
        if over:
            telling.given_up_together(subscription, outcome.detail, count=len(over))
        return [
            undelivered_record(
                parcel, subscription, outcome=outcome, attempts=round_.attempt - 1, now=now
            )
            if parcel in over
            else retry_record(
                parcel, subscription, attempt=round_.attempt, delay=delay, settings=self._settings
            )
            for parcel in round_.parcels[number:]
        ]

    def _deferred(
        self, parcels: Iterable[Outgoing], receiver: Receiver, attempt: int
    ) -> list[Record]:
        return [self._deferred_one(parcel, receiver, attempt) for parcel in parcels]

    def _deferred_one(self, parcel: Outgoing, receiver: Receiver, attempt: int) -> Record:
        subscription = receiver.subscription
        is_notification = parcel.kind is MessageType.NOTIFICATION
        is_parked = is_notification and subscription.replay_id is not None
        delay = None if is_parked else self._lanes.defer(receiver.endpoint)
        if delay is None and is_notification:
            now = self._clock.now()
            return parked_record(parcel, subscription, attempt=attempt, due_at=now)
        return retry_record(
            parcel,
            subscription,
            attempt=attempt,
            delay=LONGEST_DEFERRAL_SECONDS if delay is None else delay,
            settings=self._settings,
        )


def _portions(messages: Sequence[NewMessage]) -> Iterator[list[NewMessage]]:
    """The messages in order, in posts of a reasonable size."""
    portion: list[NewMessage] = []
    size = 0
    for message in messages:
        if portion and (
            size + len(message.body) > MAX_POST_BYTES or len(portion) == MAX_POST_MESSAGES
        ):
            yield portion
            portion, size = [], 0
        portion.append(message)
        size += len(message.body)
    if portion:
        yield portion
