"""Attempts, deliveries and statistics of subscriptions as JSON: the types, and from models to them."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType

from api.zaqar import schemas
from zaqar_notify.clock import Clock
from zaqar_notify.delivery.attempts import Attempt, State
from zaqar_notify.delivery.endpoint_states import State as BreakerState
from zaqar_notify.models import MessageType, QueueRef, Verdict
from zaqar_notify.rules.instants import shown_instant
from zaqar_notify.subscriptions import Logged, LoggedDelivery, Statistics

Count = schemas.Count


class ShownAttempt(schemas.Exact):
    """An attempt of a delivery. `state` is that of the delivery after it, `next_attempt_at` the instant of the next
    attempt, if there is one. `answer` is the beginning of the receiver's answer, `worker` a name of the process."""

    id: str
    delivery_id: str
    message_id: str
    queue: str
    subscription_id: str
    attempt: Count
    at: str
    verdict: Verdict
    status: int | None
    detail: str
    answer: str
    latency_ms: Count
    bytes: Count
    worker: str
    state: State
    next_attempt_at: str | None
    type: MessageType
    request_id: str
    topic: bool | UnsetType = UNSET


class AttemptPage(schemas.Exact):
    """Attempts, and where the page after them is. `left_out` counts attempts at these subscriptions that the log did
    not keep, because there were too many."""

    attempts: list[ShownAttempt]
    left_out: Count
    links: list[schemas.Link]


class ShownDelivery(schemas.Exact):
    """A delivery in its present state, with the attempts that the log has."""

    id: str
    queue: str
    subscription_id: str
    message_id: str
    state: State
    next_attempt_at: str | None
    attempts: list[ShownAttempt]
    topic: bool | UnsetType = UNSET


class DeliveryPage(schemas.Exact):
    """The deliveries of a message, and where the page after them is."""

    deliveries: list[ShownDelivery]
    links: list[schemas.Link]


class Latency(schemas.Exact):
    """Milliseconds within which half and 99 % of the attempts ended."""

    p50: float | None
    p99: float | None


class LastError(schemas.Exact):
    """The last attempt that failed."""

    at: str
    verdict: Verdict
    status: int | None
    detail: str
    answer: str


class Breaker(schemas.Exact):
    """`open`: the receiver fails, and gets no attempt before `open_until`; `half_open`: one process may probe it. It asked
    for no attempt before `paused_until`. `failures` are those in a row, as far as the log knows."""

    state: BreakerState
    open_until: str | None
    paused_until: str | None
    failures: Count
    failing_since: str | None


class ShownStatistics(schemas.Exact):
    """The statistics of a subscription. `delivered`, `failed_attempts` and `postponed_attempts` count from `since` on.
    `failing` deliveries failed and are tried again, `parked` ones wait for the receiver, `held` ones for the
    subscription to be enabled; `dead` ones were given up."""

    subscription_id: str
    since: str | None
    delivered: Count
    failed_attempts: Count
    postponed_attempts: Count
    left_out: Count
    failing: Count
    parked: Count
    held: Count
    dead: Count
    oldest_pending_age: float
    latency_ms: Latency
    last_success_at: str | None
    last_error: LastError | None
    breaker: Breaker
    disabled_at: str | None


def _shown_or_none(at: datetime | None) -> str | None:
    return None if at is None else shown_instant(at)


def attempt(logged: Logged) -> ShownAttempt:
    one = logged.attempt
    return ShownAttempt(
        id=logged.id,
        delivery_id=one.delivery_id,
        message_id=one.message_id,
        queue=logged.queue.public_name,
        subscription_id=logged.subscription_id,
        attempt=one.number,
        at=shown_instant(one.at),
        verdict=one.verdict,
        status=one.status,
        detail=one.detail,
        answer=one.excerpt,
        latency_ms=one.milliseconds,
        bytes=one.bytes,
        worker=one.worker,
        state=one.state,
        next_attempt_at=_shown_or_none(one.next_at),
        type=one.kind,
        request_id=one.request_id,
        topic=_topic(logged.queue),
    )


def _topic(queue: QueueRef) -> bool | UnsetType:
    return True if queue.is_topic else UNSET


def delivery(found: LoggedDelivery) -> ShownDelivery:
    return ShownDelivery(
        id=found.id,
        queue=found.queue.public_name,
        subscription_id=found.subscription_id,
        message_id=found.message_id,
        state=found.state,
        next_attempt_at=_shown_or_none(found.next_at),
        attempts=[attempt(each) for each in found.attempts],
        topic=_topic(found.queue),
    )


def statistics(subscription_id: str, found: Statistics, clock: Clock) -> ShownStatistics:
    disabled_at = found.disabled_at
    return ShownStatistics(
        subscription_id=subscription_id,
        since=_shown_or_none(found.since),
        delivered=found.delivered,
        failed_attempts=found.failed,
        postponed_attempts=found.postponed,
        left_out=found.left_out,
        failing=found.retrying,
        parked=found.parked,
        held=found.held,
        dead=found.undelivered,
        oldest_pending_age=found.oldest_pending_seconds,
        latency_ms=Latency(found.latency_p50_ms, found.latency_p99_ms),
        last_success_at=_shown_or_none(found.last_delivered_at),
        last_error=None if found.last_failure is None else _error(found.last_failure),
        breaker=Breaker(
            found.breaker,
            None if found.open_until is None else shown_instant(clock.on_host(found.open_until)),
            None
            if found.paused_until is None
            else shown_instant(clock.on_host(found.paused_until)),
            found.failures_in_a_row,
            _shown_or_none(found.failing_since),
        ),
        disabled_at=None if disabled_at is None else shown_instant(clock.on_host(disabled_at)),
    )


def _error(attempt: Attempt) -> LastError:
    return LastError(
        shown_instant(attempt.at), attempt.verdict, attempt.status, attempt.detail, attempt.excerpt
    )
