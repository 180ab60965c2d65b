"""One request to a paced receiver: its attempt, and what becomes of its deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from workers.attempts import Attempts, Batch
from workers.delivery_log import DeliveryLog
from workers.disabling import Disabling
from workers.giving_up import GivingUp
from workers.ledger import Ledger
from workers.pacing.places import Places
from workers.recorder import Recorder
from workers.retries import Retries
from workers.taken import Taken
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import InternalMessage, Outgoing, delivery_id
from zaqar_notify.delivery.attempts import Attempt
from zaqar_notify.models import Delivery, Outcome, QueueRef, Verdict


class Owner(Protocol):
    """Has the requests of one subscription under way."""

    def begun(self, unit: Unit) -> None:
        """Its request is about to be sent."""

    def ended(self, unit: Unit, again: Unit | None) -> None:
        """It is over; `again` is its next attempt, None: its deliveries are done with."""

    def broke(self) -> None:
        """A result could not be recorded: the job is let go."""


class Unit(Batch, eq=False, frozen=True, kw_only=True):
    """One request: a delivery, or several as a batch, of a paced subscription; `taken` is the replay job.

    `place` is the id of its stored place, if it has one. No other unit with one of its `lanes` is under way.
    """

    owner: Owner
    on: QueueRef
    records: Sequence[Taken]
    lanes: frozenset[str]
    due_at: datetime
    keeps_place: bool
    is_batch: bool
    place: str | None = None

    @property
    def ids(self) -> list[str]:
        return [record.message.id for record in self.records]


class _Sent(NamedTuple):
    """A request that was sent, and its result."""

    unit: Unit
    delivery: Delivery
    outcome: Outcome
    seconds: float

    @property
    def deliveries(self) -> list[Delivery]:
        """One for each of its messages."""
        messages = self.unit.messages
        return [replace(self.delivery, message_id=message.message_id) for message in messages]


class Trying:
    def __init__(
        self,
        attempts: Attempts,
        retries: Retries,
        disabling: Disabling,
        giving_up: GivingUp,
        ledger: Ledger,
        places: Places,
        recorder: Recorder,
        log: DeliveryLog,
        *,
        clock: Clock,
    ) -> None:
        self._attempts = attempts
        self._retries = retries
        self._disabling = disabling
        self._giving_up = giving_up
        self._ledger = ledger
        self._places = places
        self._recorder = recorder
        self._log = log
        self._clock = clock

    async def make(self, unit: Unit) -> None:
        """Send it once, and record the result; once the replay is another worker's, nothing is sent or recorded."""
        with unit.taken:
            try:
                again = await self._make(unit)
            except BaseException:
                unit.owner.broke()
                unit.owner.ended(unit, unit)
                raise
            unit.owner.ended(unit, again)

    async def _make(self, unit: Unit) -> Unit | None:
        if unit.is_batch and unit.place is None:
            # So it has the same content and id, should this process end before the result is recorded.
            unit = await self._kept(unit, unit.attempt, unit.due_at)
        if not unit.taken.is_held(self._clock.now()):
            return unit
        unit.owner.begun(unit)
        was_suspect = unit.endpoint.is_suspect
        delivery = self._delivery(unit)
        outcome, seconds = await self._attempts.try_once(delivery, unit.receiver)
        if not unit.taken.is_held(self._clock.now()):
            return unit
        sent = _Sent(unit, delivery, outcome, seconds)
        match outcome.verdict:
            case Verdict.DELIVERED:
                return await self._delivered(sent)
            case Verdict.GONE:
                await self._disabling.gone(unit.receiver, outcome)
                return await self._held(sent)
            case Verdict.POSTPONED:
                return await self._postponed(sent)
        return await self._failed(sent, was_suspect=was_suspect)

    async def _delivered(self, sent: _Sent) -> Unit | None:
        receiver = sent.unit.receiver
        for message, delivery in zip(sent.unit.messages, sent.deliveries, strict=True):
            self._attempts.arrived(message, receiver)
            end = self._log.delivered(
                delivery,
                sent.outcome,
                seconds=sent.seconds,
                is_repeated=sent.unit.taken.is_repeated or bool(message.replayed_by),
            )
            self._log.keep(receiver.subscription, end)
        await self._disabling.succeeded(receiver)
        return await self._done(sent.unit)

    async def _held(self, sent: _Sent) -> Unit:
        """The deliveries stay where they are, because the subscription is disabled."""
        unit, subscription = sent.unit, sent.unit.receiver.subscription
        unit.receiver.is_disabled = True
        held = [self._retries.held(message, subscription) for message in unit.messages]
        await self._log.write(subscription, self._failures(sent, held))
        return unit

    async def _postponed(self, sent: _Sent) -> Unit | None:
        """The attempt is unspent, unless it would come too late."""
        unit, delay = sent.unit, max(1, sent.outcome.retry_after_seconds or 0)
        due_at = self._clock.now() + timedelta(seconds=delay)
        if any(await self._retries.are_over(unit.messages, unit.receiver.subscription, due_at)):
            return await self._given_up(sent, attempts=unit.attempt - 1)
        await self._log_retries(sent, unit.attempt, delay)
        return replace(unit, due_at=due_at)

    async def _failed(self, sent: _Sent, *, was_suspect: bool) -> Unit | None:
        unit, outcome, attempt = sent.unit, sent.outcome, sent.unit.attempt
        subscription, [first, *_] = unit.receiver.subscription, unit.messages
        await self._disabling.failed(unit.receiver, sent.delivery, outcome)
        if unit.receiver.is_disabled:
            return await self._held(sent)
        delay = await self._retries.delay_after(outcome, first, subscription, attempt)
        if delay is None:
            return await self._given_up(sent, attempts=attempt)
        self._recorder.failed(
            outcome, sent.delivery, next_try_seconds=delay, is_suspect=was_suspect
        )
        [retry, *_] = await self._log_retries(sent, attempt + 1, delay)
        if unit.keeps_place:
            due_at = self._clock.now() + timedelta(seconds=delay)
            return await self._kept(unit, attempt + 1, due_at)
        await self._ledger.write_for(subscription, [retry])
        return await self._done(unit)

    async def _given_up(self, sent: _Sent, *, attempts: int) -> Unit | None:
        unit, outcome = sent.unit, sent.outcome
        subscription = unit.receiver.subscription
        self._recorder.given_up(outcome, sent.delivery)
        of_each = [
            await self._giving_up.records(message, subscription, outcome=outcome, attempts=attempts)
            for message in unit.messages
        ]
        failures = self._failures(sent, [records[0] for records in of_each])
        async with self._log.writing(subscription, failures):
            await self._ledger.write_for(subscription, [*chain.from_iterable(of_each)])
        return await self._done(unit)

    async def _log_retries(self, sent: _Sent, attempt: int, delay: int) -> list[InternalMessage]:
        """Log that the deliveries are tried again; their records, as they would be stored elsewhere."""
        subscription = sent.unit.receiver.subscription
        records = [
            self._retries.retry(message, subscription, attempt, delay)
            for message in sent.unit.messages
        ]
        await self._log.write(subscription, self._failures(sent, records))
        return records

    def _failures(self, sent: _Sent, records: Sequence[InternalMessage]) -> list[Attempt]:
        """The entries of the log."""
        return [
            self._log.failed(delivery, sent.outcome, record, seconds=sent.seconds)
            for delivery, record in zip(sent.deliveries, records, strict=True)
        ]

    async def _kept(self, unit: Unit, attempt: int, due_at: datetime) -> Unit:
        """The unit, which keeps its place until its next attempt."""
        subscription = unit.receiver.subscription
        place = await self._places.keep(
            subscription, unit.on, unit.ids, attempt=attempt, due_at=due_at
        )
        await self._forget_place(unit)
        return replace(unit, attempt=attempt, due_at=due_at, place=place)

    async def _done(self, unit: Unit) -> Unit | None:
        """There is no next attempt: have the deliveries deleted."""
        for record in unit.records:
            with record:
                pass
        await self._forget_place(unit)
        return None

    async def _forget_place(self, unit: Unit) -> None:
        if unit.place is not None:
            await self._places.forget(unit.receiver.subscription, unit.place)

    def _delivery(self, unit: Unit) -> Delivery:
        [first, *_] = unit.messages
        delivery = self._attempts.delivery(first, unit.receiver, unit.attempt)
        if not unit.is_batch:
            return delivery
        ids = [message.message_id for message in unit.messages]
        return replace(
            delivery,
            id=delivery_id(unit.receiver.subscription.id, ",".join(ids)),
            payload=b"[%b]" % b", ".join(map(_in_batch, unit.messages)),
            batch=tuple(ids),
        )


def _in_batch(message: Outgoing) -> bytes:
    """The notification, with the attributes that the request's header has of a single message."""
    attributes = message.message.attributes
    if attributes is None:
        return message.payload
    return b'%b, "attributes": %b}' % (message.payload[:-1], attributes)
