"""Attempts: a batch of messages is sent to one receiver, and the deliveries still owed afterwards are stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus

import msgspec

from sinks.shortage import is_shortage
from workers.breakers import Breakers
from workers.delivery_log import DeliveryLog
from workers.disabling import Disabling
from workers.endpoints import Endpoint
from workers.ledger import Ledger
from workers.receivers import Receiver
from workers.recorder import Failures, Recorder
from workers.replay_jobs import FIRST_PROBE_SECONDS
from workers.retries import Retries
from workers.store import RetryingStore
from workers.taken import Taken
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import InternalMessage, Outgoing, delivery_id
from zaqar_notify.delivery.attempts import Attempt
from zaqar_notify.delivery.kinds import Sink
from zaqar_notify.models import Delivery, MessageType, Outcome, Subscription, Verdict

SHORTAGE_PAUSE_SECONDS = 5
"""How long a receiver is left alone when we could not reach it for want of files or memory."""


BELIEVED_SECONDS = 1.0
"""How old a batch's knowledge of its subscription may be when an attempt begins: a pause stops long batches, too."""

OVERLOADED = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Answers about the receiver's load, and not about the message. Source: Standard Webhooks 1.0.0."""


class Batch(msgspec.Struct, eq=False, frozen=True):
    """Messages of one job on their way to one receiver, one after the other. `attempt` is the number of the
    attempt that is made of each, from 1. A patient one waits for a slot however long that takes.
    """

    receiver: Receiver
    messages: Sequence[Outgoing]
    attempt: int
    taken: Taken
    is_patient: bool = False

    @property
    def endpoint(self) -> Endpoint:
        return self.receiver.endpoint

    @property
    def may_begin(self) -> bool:
        """False: the receiver fails, or other deliveries are parked for it; a replay fetches these in their turn."""
        receiver = self.receiver
        if receiver.subscription.replay_id is None and not receiver.endpoint.is_suspect:
            return True
        return self.messages[0].kind is not MessageType.NOTIFICATION

    def accepted(self) -> None:
        """Its attempts are one more part of the job."""
        self.taken.add_part()


class _Owed(msgspec.Struct):
    """The records of deliveries that are owed after the attempts, and the log's entries of these attempts."""

    records: list[InternalMessage]
    log: list[Attempt]


class Attempts:
    def __init__(
        self,
        store: RetryingStore,
        retries: Retries,
        disabling: Disabling,
        ledger: Ledger,
        recorder: Recorder,
        breakers: Breakers,
        log: DeliveryLog,
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._retries = retries
        self._disabling = disabling
        self._ledger = ledger
        self._recorder = recorder
        self._breakers = breakers
        self._log = log
        self._clock = clock

    async def make(self, batch: Batch) -> None:
        """Try each message once and store the deliveries still owed; then this part of the job is done.

        Once the job is another worker's, nothing is tried or stored any more: all of it is done anew.
        """
        taken = batch.taken
        with taken:
            owed = await self._make_each(batch)
            subscription = batch.receiver.subscription
            async with self._log.writing(subscription, owed.log):
                if owed.records and taken.is_held(self._clock.now()):
                    await self._ledger.write_for(subscription, owed.records)

    async def _make_each(self, batch: Batch) -> _Owed:
        """Try each message; return the deliveries still owed."""
        receiver, attempt = batch.receiver, batch.attempt
        endpoint = receiver.endpoint
        owed = _Owed([], [])
        records = owed.records
        for number, message in enumerate(batch.messages):
            if not batch.taken.is_held(self._clock.now()):
                break
            is_notification = message.kind is MessageType.NOTIFICATION
            if is_notification and time.monotonic() - receiver.read_at > BELIEVED_SECONDS:
                await self._look_again(receiver)
            if is_notification and receiver.is_over:
                self._drop(batch.messages[number:], receiver.subscription)
                break
            if is_notification and receiver.is_disabled:
                records.append(self._retries.held(message, receiver.subscription))
                continue
            if endpoint.is_paused(time.monotonic()):
                records += self._retries.deferred(batch.messages[number:], receiver, attempt)
                break
            was_suspect = endpoint.is_suspect
            delivery = self.delivery(message, receiver, attempt)
            outcome, seconds = await self.try_once(delivery, receiver)
            verdict = outcome.verdict
            if verdict is Verdict.DELIVERED:
                is_repeated = batch.taken.is_repeated or bool(message.replayed_by)
                end = self._log.delivered(
                    delivery, outcome, seconds=seconds, is_repeated=is_repeated
                )
                if batch.is_patient:
                    # Of a replay there may be very many.
                    self._log.keep(receiver.subscription, end)
                else:
                    owed.log += end
                self.arrived(message, receiver)
                await self._disabling.succeeded(receiver)
                continue
            if verdict is Verdict.POSTPONED:
                rest = batch.messages[number:]
                following = await self._retries.postponed(rest, receiver, attempt, outcome)
                owed.log.append(self._log.failed(delivery, outcome, following[0], seconds=seconds))
                records += following
                break
            following = await self._retries.after_failure(
                outcome, delivery, message, receiver, was_suspect=was_suspect
            )
            owed.log.append(self._log.failed(delivery, outcome, following[0], seconds=seconds))
            records += following
            if endpoint.is_suspect:
                records += self._retries.deferred(batch.messages[number + 1 :], receiver, attempt)
                break
        return owed

    async def _look_again(self, receiver: Receiver) -> None:
        subscription = receiver.subscription
        receiver.knows(await self._store.subscription(subscription.queue, subscription.id))

    def _drop(self, messages: Sequence[Outgoing], subscription: Subscription) -> None:
        count = len(messages)
        self._recorder.dropped_together(subscription.queue, subscription.id, count=count)

    def arrived(self, message: Outgoing, receiver: Receiver) -> None:
        """Record that the message was delivered."""
        if message.since is not None:
            waited = self._clock.now() - message.since
            self._recorder.arrived(receiver.scheme, waited.total_seconds())

    async def try_once(self, delivery: Delivery, receiver: Receiver) -> tuple[Outcome, float]:
        """Send it, and learn from the result how the receiver is doing; the seconds that it took, too."""
        began = time.monotonic()
        outcome = await self._send(receiver.sink, delivery)
        ended = time.monotonic()
        if outcome.verdict is not Verdict.POSTPONED:
            self._learn(outcome, receiver, seconds=ended - began, now=ended)
        if outcome.retry_after_seconds:
            self._pause(outcome, receiver, outcome.retry_after_seconds, now=ended)
        self._recorder.attempted(outcome, delivery, scheme=receiver.scheme)
        return outcome, ended - began

    def _pause(self, outcome: Outcome, receiver: Receiver, seconds: int, *, now: float) -> None:
        endpoint = receiver.endpoint
        if outcome.verdict is Verdict.POSTPONED or endpoint.is_paused(now + seconds - 1):
            # Our own fault is no other process's; and the others know of a pause that lasts as long.
            endpoint.pause(seconds, now=now)
            return
        if not endpoint.is_paused(now):
            self._recorder.paused(receiver.subscription, seconds=seconds)
        self._breakers.paused(endpoint, seconds)

    async def _send(self, sink: Sink | None, delivery: Delivery) -> Outcome:
        if sink is None:
            scheme = delivery.subscription.subscriber.partition(":")[0]
            return Outcome(Verdict.REFUSED, detail=f"{scheme[:40]} is not in subscriber_types")
        try:
            outcome = await sink.deliver(delivery)
            if delivery.kind is MessageType.NOTIFICATION:
                return outcome
            # A receiver may repeat the link that confirms, which is for the subscriber alone.
            return msgspec.structs.replace(outcome, excerpt="")
        except Exception as error:  # A defect in a sink costs its own deliveries only.
            if is_shortage(error):
                # The receiver is not blamed.
                detail = str(error) or type(error).__name__
                self._recorder.short_of_resources(detail)
                pause = SHORTAGE_PAUSE_SECONDS
                return Outcome(Verdict.POSTPONED, detail=detail, retry_after_seconds=pause)
            self._recorder.sink_failed(delivery)
            return Outcome(Verdict.TRY_LATER, detail=f"the sink failed: {type(error).__name__}")

    def _learn(self, outcome: Outcome, receiver: Receiver, *, seconds: float, now: float) -> None:
        """How the receiver is doing; that it begins to fail or recovers is recorded."""
        endpoint = receiver.endpoint
        was_suspect = endpoint.is_suspect
        has_answered = outcome.verdict is not Verdict.TRY_LATER
        if has_answered and endpoint.failures:
            since = self._clock.host_now() - timedelta(seconds=now - endpoint.failing_since)
            receiver.failures = Failures(endpoint.failures, since)
        is_overloaded = outcome.status is None or outcome.status in OVERLOADED
        endpoint.tried(
            succeeded=has_answered, seconds=seconds, now=now, is_overloaded=is_overloaded
        )
        if endpoint.is_suspect and not was_suspect:
            self._breakers.opened(endpoint, FIRST_PROBE_SECONDS)
            self._recorder.suspect(receiver.subscription)
        elif was_suspect and not endpoint.is_suspect:
            self._breakers.closed(endpoint)
            if outcome.verdict is not Verdict.GONE:
                self._recorder.recovered(receiver.subscription, receiver.failures)

    def delivery(self, message: Outgoing, receiver: Receiver, attempt: int) -> Delivery:
        """The message as it is sent now."""
        subscription = receiver.subscription
        return Delivery(
            id=delivery_id(subscription.id, message.message_id),
            kind=message.kind,
            subscription=subscription,
            message_id=message.message_id,
            payload=message.payload,
            message=message.message,
            attempt=attempt,
            sent_at=self._clock.host_now(),
            secrets=receiver.secrets,
            hops=message.hops,
            request_id=message.request_id,
            visited=message.visited,
            origin=message.origin,
            posted_at=None if message.posted_at is None else self._clock.on_host(message.posted_at),
        )
