"""Calls about deliveries: the log of their attempts, their state, and the statistics of subscriptions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TypedDict, Unpack
from urllib.parse import quote

import msgspec

from zaqar_notify.client.calls import Calls
from zaqar_notify.client.transport import Parameters, Transport
from zaqar_notify.client.wire import Listing, message_path, next_marker, read, subscription_path

PAGE = 20
"""The most that a service with default limits puts on one page."""

LOOK_SECONDS = 1.0
"""How often a follower of the log looks for new attempts."""
OVERLAP = timedelta(seconds=30)
"""An attempt may come to the log so much later than it was made."""


class Attempt(msgspec.Struct, frozen=True):
    """An attempt of a delivery. `state` is that of the delivery after it, `answer` the beginning of the receiver's."""

    id: str
    delivery_id: str
    message_id: str
    queue: str
    subscription_id: str
    attempt: int
    at: datetime
    verdict: str
    latency_ms: int
    bytes: int
    state: str
    status: int | None = None
    detail: str = ""
    answer: str = ""
    worker: str = ""
    next_attempt_at: datetime | None = None
    type: str = "Notification"
    request_id: str = ""
    topic: bool = False


class Delivery(msgspec.Struct, frozen=True):
    """A delivery in its present state (delivered, retrying, parked, held or undelivered), with the attempts that the
    log has."""

    id: str
    queue: str
    subscription_id: str
    message_id: str
    state: str
    next_attempt_at: datetime | None = None
    attempts: list[Attempt] = []
    topic: bool = False


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds within which half and 99 % of the attempts ended; None without any."""

    p50: float | None = None
    p99: float | None = None


class LastError(msgspec.Struct, frozen=True):
    """The last attempt that failed."""

    at: datetime
    verdict: str
    status: int | None = None
    detail: str = ""
    answer: str = ""


class Breaker(msgspec.Struct, frozen=True):
    """`open`: the receiver fails, and gets no attempt before `open_until`; `half_open`: it may be probed. It asked for no
    attempt before `paused_until`."""

    state: str
    open_until: datetime | None = None
    paused_until: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None


class SubscriptionStats(msgspec.Struct, frozen=True):
    """The statistics of a subscription. Numbers of attempts count from `since` on; others are those of now."""

    subscription_id: str
    since: datetime | None
    delivered: int
    failed_attempts: int
    postponed_attempts: int
    left_out: int
    failing: int
    parked: int
    held: int
    dead: int
    oldest_pending_age: float
    latency_ms: Latency
    breaker: Breaker
    last_success_at: datetime | None = None
    last_error: LastError | None = None
    disabled_at: datetime | None = None


class AttemptPage(msgspec.Struct, frozen=True):
    """Attempts. `marker` is where the next page begins; None: there is none. `left_out` counts attempts at these
    subscriptions that the log did not keep."""

    attempts: list[Attempt]
    left_out: int
    marker: str | None


class _Attempts(Listing, kw_only=True):
    attempts: list[Attempt]
    left_out: int


class _Deliveries(Listing, kw_only=True):
    deliveries: list[Delivery]


class Filters(TypedDict, total=False):
    """The attempts that are asked for. `outcome` is `delivered`, `failed`, `try_later`, `refused`, `gone` or
    `postponed`; several are separated by commas."""

    queue: str | None
    topic: str | None
    subscription_id: str | None
    message_id: str | None
    outcome: str | None


class Deliveries(Calls):
    """The calls about deliveries of a client's project. They raise as those of the client."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def show(
        self, delivery_id: str, *, queue: str | None = None, subscription_id: str | None = None
    ) -> Delivery:
        """One delivery, by its id: that of the header `webhook-id`, an attempt or an undelivered message.

        Args:
            subscription_id: Where it is known, the delivery is found sooner, and before its first attempt.

        Raises:
            NotFound: The log does not know it.
        """
        answer = self._transport.send(
            "GET",
            f"/v2/deliveries/{quote(delivery_id, '')}",
            parameters={"queue": queue, "subscription": subscription_id},
        )
        return read(answer, Delivery)

    def page(
        self,
        marker: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> AttemptPage:
        """Attempts after `marker`, by queue and subscription, and by time within one.

        A page may be empty and still have a marker: there may be more behind it.

        Args:
            since: An aware instant; attempts at it are included.
            until: An aware instant; attempts at it are not included.
        """
        parameters = {
            "marker": marker,
            "queue": filters.get("queue"),
            "topic": filters.get("topic"),
            "subscription": filters.get("subscription_id"),
            "message": filters.get("message_id"),
            "outcome": filters.get("outcome"),
            "since": _instant(since),
            "until": _instant(until),
            "limit": limit,
        }
        return self._page("/v2/deliveries", parameters)

    def attempts(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[Attempt]:
        """All attempts that `page` would give, read page by page."""
        marker: str | None = None
        while True:
            page = self.page(marker, since=since, until=until, limit=PAGE, **filters)
            yield from page.attempts
            marker = page.marker
            if marker is None:
                return

    def of_subscription(
        self,
        queue: str,
        subscription_id: str,
        marker: str | None = None,
        *,
        outcome: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> AttemptPage:
        """Attempts at one subscription after `marker`, oldest first.

        Raises:
            NotFound: There is no such subscription.
        """
        parameters = {
            "marker": marker,
            "outcome": outcome,
            "since": _instant(since),
            "until": _instant(until),
            "limit": limit,
        }
        return self._page(f"{subscription_path(queue, subscription_id)}/deliveries", parameters)

    def of_message(self, queue: str, message_id: str) -> Iterator[Delivery]:
        """The deliveries of a message of which the log has an attempt, by subscription, read page by page."""
        path = f"{message_path(queue, message_id)}/deliveries"
        for page in self._pages(path, {"limit": PAGE}, _Deliveries):
            yield from page.deliveries

    def stats(self, queue: str, subscription_id: str) -> SubscriptionStats:
        """The statistics of a subscription."""
        path = f"{subscription_path(queue, subscription_id)}/stats"
        return read(self._transport.send("GET", path), SubscriptionStats)

    def tail(
        self,
        *,
        since: datetime,
        look_seconds: float = LOOK_SECONDS,
        **filters: Unpack[Filters],
    ) -> Iterator[Attempt]:
        """Follow the log without end: each attempt since then once, in order of time within one look.

        Args:
            since: An aware instant.
        """
        seen: dict[str, datetime] = {}
        while True:
            found = self.attempts(since=since, **filters)
            news = sorted((each for each in found if each.id not in seen), key=_by_time)
            yield from news
            seen |= {each.id: each.at for each in news}
            if news:
                since = max(since, news[-1].at - OVERLAP)
                seen = {each: at for each, at in seen.items() if at >= since}
            time.sleep(look_seconds)

    def _page(self, path: str, parameters: Parameters) -> AttemptPage:
        page = read(self._transport.send("GET", path, parameters=parameters), _Attempts)
        return AttemptPage(page.attempts, page.left_out, next_marker(page))


def _by_time(attempt: Attempt) -> datetime:
    return attempt.at


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
