"""The counts of one process about its work, as plain numbers: a request pays about a microsecond.

`zaqar_notify.operations.exposition` makes Prometheus' text of them for each scrape. No project's, queue's or
subscriber's name is among them, and the sets of labels are bounded; clients can't add to them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from zaqar_notify.delivery.backlog import BacklogView
from zaqar_notify.rules.quotas import REFUSING

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds; one more bucket takes slower ones."""

DELIVERY_SECONDS = (
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    30.0,
    60.0,
    300.0,
    3600.0,
    21600.0,
    86400.0,
)
"""The same for deliveries, which a receiver may have failed for hours before."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""Stands for a method that is none of ours, and for a path that is none of our resources."""

ALARMING = (500, 503)
"""Statuses that alarms look at."""

OVER_RATE = 429
"""Shown as the status of a request that was refused for its project's rate, whatever `ZAQAR_RATE_STATUS` is."""

CALLER_GONE = 499
"""Shown as the status of a request when the client hung up before it was complete."""


class EngineState(Protocol):
    """The present state of a delivery engine."""

    @property
    def troubles(self) -> Mapping[str, int]:
        """How many things an operator has to mend before deliveries go on, by scheme."""

    @property
    def in_flight(self) -> int: ...

    @property
    def in_hand(self) -> int: ...


class BrokerCounts(Protocol):
    """The state of the broker, as a process of a cluster sees it."""

    @property
    def is_heard(self) -> bool:
        """Whether the broker took the last ring; in a worker, whether rings would be heard."""

    counts: Counter[str]
    """Rings since the start, by their result: sent, spared, dropped. A worker does not ring."""


class CertificateState(Protocol):
    """The certificate with which a process serves HTTPS."""

    @property
    def expires_at(self) -> datetime: ...


class Tally:
    """A count of equal events: requests of one route, method and status; deliveries of one scheme."""

    __slots__ = ("_bounds", "buckets", "count", "seconds")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS_SECONDS) -> None:
        self._bounds = bounds
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(bounds) + 1)
        """How many took up to each bound and more than the one before."""

    def note(self, seconds: float | None) -> None:
        """Count one; None: its time tells nothing."""
        self.count += 1
        if seconds is not None:
            self.seconds += seconds
            self.buckets[bisect_left(self._bounds, seconds)] += 1


class DeliveryCounts:
    """Deliveries since the start, by their result."""

    def __init__(self) -> None:
        self.tries: Counter[tuple[str, str]] = Counter()
        """By scheme and verdict."""
        self.written: Counter[str] = Counter(retry=0, parked=0, held=0, undelivered=0, later=0)
        """Records by kind of internal queue."""
        self.dropped: Counter[str] = Counter(gone=0, unconfirmed=0, confirmed=0)
        """Deliveries that ended with their subscription, by reason."""
        self.filtered: Counter[str] = Counter(accepted=0, rejected=0, undecided=0, unreadable=0)
        """Deliveries of subscriptions with a filter policy, by its result; undecided ones are accepted, too. Of
        unreadable policies, jobs."""
        self.endpoint_changes: Counter[str] = Counter(opened=0, probed=0, closed=0, paused=0)
        """Of the states of endpoints, as this process made them."""
        self.delays: dict[str, Tally] = {}
        """By scheme: from when a delivery was due to when it arrived, by `DELIVERY_SECONDS`."""

    def delay_of(self, scheme: str) -> Tally:
        tally = self.delays.get(scheme)
        if tally is None:
            tally = self.delays[scheme] = Tally(DELIVERY_SECONDS)
        return tally


class SocketCounts:
    """WebSockets, and their frames since the start."""

    def __init__(self) -> None:
        self.open = 0
        self.frames: Counter[tuple[str, int]] = Counter()
        """Frames of clients, by action and status."""
        self.notifications = 0
        """Notifications that have arrived."""
        self.unproven = 0
        """Notifications that were sent, or wait for a slow client, and have not arrived yet."""

    def expect(self, actions: Iterable[str]) -> None:
        """Show the alarming answers to these actions from the start, as 0."""
        self.frames.update({(action, status): 0 for action in actions for status in ALARMING})


class Requests:
    """Counts requests by route template, method and status, and how long they took."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, int], Tally] = {}

    def expect(self, route: str, methods: Iterable[str]) -> None:
        """Show the route's alarming answers from the start, as 0: Prometheus sees no increase in a count
        that begins with its first event."""
        for method in methods:
            for status in ALARMING:
                self._tallies.setdefault((route, method, status), Tally())

    def note(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """Count one request; None: it waited on purpose, so that its time tells nothing."""
        if method not in METHODS:
            method = OTHER
        tally = self._tallies.get((route, method, status))
        if tally is None:
            tally = self._tallies[route, method, status] = Tally()
        tally.note(seconds)

    def items(self) -> Iterable[tuple[tuple[str, str, int], Tally]]:
        return self._tallies.items()


class Metrics:
    """The counts of one process. Working code adds to them, or binds a function to be asked."""

    def __init__(self) -> None:
        self.requests = Requests()
        self.sockets = SocketCounts()
        self.posts = 0
        self.messages_posted = 0
        self.claims = 0
        self.messages_claimed = 0
        self.confirmations_withheld = 0
        self.suppressed = 0
        self.quota_refusals: Counter[str] = Counter(dict.fromkeys(REFUSING, 0))
        """Refusals by quota: over a rate, or over a stored quota."""
        self.overloads: Counter[str] = Counter(
            connections=0, idle=0, buffers=0, requests=0, bodies=0, callers=0
        )
        """Connections and requests that were refused or ended because the process had too many."""
        self.filtered: Counter[tuple[str, str]] = Counter()
        """Posts by message filter and by what it did."""
        self.event_streams = 0
        """Those that are open."""
        self.in_flight: Callable[[], int] = lambda: 0
        """Asked for the number of requests that are being answered."""
        self.backlog = BacklogView()
        self.deliveries = DeliveryCounts()
        self.certificate: CertificateState | None = None
        self.engine: EngineState | None = None
        """Of a process that delivers."""
        self.broker: BrokerCounts | None = None
        """Of a process that rings, or is rung."""

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count an event stream while it is open."""
        self.event_streams += 1
        try:
            yield
        finally:
            self.event_streams -= 1
