"""The statistics of a subscription, over all processes of the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.delivery import OwedDelivery, read_work
from zaqar_notify.delivery.attempts import Attempt, Counts, State, percentile
from zaqar_notify.delivery.endpoint_states import EndpointState
from zaqar_notify.delivery.endpoint_states import State as BreakerState
from zaqar_notify.models import QueueRef, Subscription, Verdict
from zaqar_notify.service import Service
from zaqar_notify.storage.internal import DEFAULT_POOL, held_ref, parked_ref, undelivered_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions.log import attempts_of, numbers_of
from zaqar_notify.subscriptions.reading import get


class Statistics(msgspec.Struct, frozen=True):
    """The numbers of deliveries count from `since` on; None: none was counted yet. `retrying`, `parked`, `held` and
    `undelivered` are those of now. Latencies are milliseconds of attempts. `breaker`, `open_until` and `paused_until` are
    those of the receiver: see `delivery.endpoint_states`.
    """

    since: datetime | None
    delivered: int
    failed: int
    postponed: int
    left_out: int
    retrying: int
    parked: int
    held: int
    undelivered: int
    oldest_pending_seconds: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    last_delivered_at: datetime | None
    last_failure: Attempt | None
    failures_in_a_row: int
    failing_since: datetime | None
    breaker: BreakerState
    open_until: datetime | None
    paused_until: datetime | None
    disabled_at: datetime | None


async def statistics(service: Service, ref: QueueRef, subscription_id: str) -> Statistics:
    """Of one subscription, from its own queues.

    Raises:
        SubscriptionDoesNotExist: There is none.
    """
    storage, now = service.storage, service.clock.now()
    subscription = await get(service, ref, subscription_id)
    numbers = await numbers_of(storage, ref, subscription_id, now=now)
    seen = _Seen()
    async for logged in attempts_of(storage, ref, subscription_id, now=now):
        seen.note(logged.attempt)
    delivered_at = _latest([*(each.last_delivered_at for each in numbers), seen.delivered_at])
    retrying = seen.retrying(service.clock.on_host(now))
    failures = seen.failures_after(delivered_at)
    durations = _together(numbers)
    parked, held, undelivered = await _counted(storage, subscription, now)
    endpoint = await _endpoint(service, subscription, now)
    return Statistics(
        since=min((each.since for each in numbers), default=None),
        delivered=sum(each.delivered for each in numbers),
        failed=sum(each.failed for each in numbers),
        postponed=sum(each.postponed for each in numbers),
        left_out=sum(each.left_out for each in numbers),
        retrying=len(retrying),
        parked=parked,
        held=held,
        undelivered=undelivered,
        oldest_pending_seconds=await _oldest(service, subscription, retrying, now),
        latency_p50_ms=percentile(durations, 0.5),
        latency_p99_ms=percentile(durations, 0.99),
        last_delivered_at=delivered_at,
        last_failure=seen.last_failure,
        failures_in_a_row=len(failures),
        failing_since=failures[0].at if failures else None,
        breaker=endpoint.state(now),
        open_until=endpoint.open_until,
        paused_until=endpoint.paused_until if endpoint.is_paused(now) else None,
        disabled_at=subscription.disabled_at,
    )


class _Seen:
    """The attempts of a log, in their order."""

    def __init__(self) -> None:
        self.delivered_at: datetime | None = None
        self.last_failure: Attempt | None = None
        self._failures: list[Attempt] = []
        """Since the last success that the log has."""
        self._first_of: dict[str, datetime] = {}
        self._last_of: dict[str, Attempt] = {}

    def note(self, attempt: Attempt) -> None:
        if attempt.verdict is Verdict.DELIVERED:
            self.delivered_at = attempt.at
            self._failures = []
            self._first_of.pop(attempt.delivery_id, None)
            self._last_of.pop(attempt.delivery_id, None)
            return
        self._first_of.setdefault(attempt.delivery_id, attempt.at)
        self._last_of[attempt.delivery_id] = attempt
        if attempt.verdict is not Verdict.POSTPONED:
            self.last_failure = attempt
            self._failures.append(attempt)

    def failures_after(self, delivered_at: datetime | None) -> Sequence[Attempt]:
        return [each for each in self._failures if delivered_at is None or each.at > delivered_at]

    def retrying(self, now: datetime) -> Sequence[datetime]:
        """The first attempts of deliveries that failed, and whose next attempt is to come; others are parked by now."""
        return [
            self._first_of[each]
            for each, last in self._last_of.items()
            if last.state is State.RETRYING and last.next_at is not None and last.next_at >= now
        ]


def _latest(instants: Sequence[datetime | None]) -> datetime | None:
    return max((each for each in instants if each is not None), default=None)


def _together(numbers: Sequence[Counts]) -> dict[int, int]:
    together: Counter[int] = Counter()
    for each in numbers:
        together.update(each.durations)
    return together


async def _endpoint(service: Service, subscription: Subscription, now: datetime) -> EndpointState:
    """What all processes know of the receiver."""
    async with service.storage.pools.on(DEFAULT_POOL) as store:
        await service.endpoints.look(store, now=now)
    found = service.endpoints.of(subscription.queue.project, subscription.subscriber)
    return found or EndpointState()


async def _counted(
    storage: Storage, subscription: Subscription, now: datetime
) -> tuple[int, int, int]:
    """How many deliveries are parked, held and undelivered."""
    async with storage.at(subscription.queue) as store:
        parked, held, undelivered = [
            (await store.messages.stats(make(subscription.id), now=now)).total
            for make in (parked_ref, held_ref, undelivered_ref)
        ]
    return parked, held, undelivered


async def _oldest(
    service: Service, subscription: Subscription, retrying: Sequence[datetime], now: datetime
) -> float:
    """For how many seconds the oldest delivery is owed that is still to be made; 0: none is."""
    host_now = service.clock.on_host(now)
    ages = [(host_now - since).total_seconds() for since in retrying]
    for make in (parked_ref, held_ref):
        async with service.storage.at(subscription.queue) as store:
            page = await store.messages.page(
                make(subscription.id), marker=None, limit=1, now=now, include_claimed=True
            )
        for message in page.messages:
            work = read_work(message.body)
            since = work.since if isinstance(work, OwedDelivery) else None
            ages.append((now - (since or message.posted_at)).total_seconds())
    return max(0.0, round(max(ages, default=0.0), 1))
