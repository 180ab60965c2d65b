"""The counts of this process as Prometheus reads them. docs/monitoring.md gives the meaning of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from zaqar_notify import __version__
from zaqar_notify.delivery.backlog import Backlog
from zaqar_notify.metrics import (
    BUCKETS_SECONDS,
    DELIVERY_SECONDS,
    OTHER,
    BrokerCounts,
    DeliveryCounts,
    EngineState,
    Metrics,
    Requests,
    SocketCounts,
    Tally,
)
from zaqar_notify.models import Verdict
from zaqar_notify.operations.pool_metrics import PoolStates
from zaqar_notify.service import Service
from zaqar_notify.settings.section import Words

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_NO_DELIVERY = Tally(DELIVERY_SECONDS)


async def exposition(service: Service) -> bytes:
    """All metrics of this process, in Prometheus' text format."""
    is_store_up = await service.health.readiness.is_able(service.storage)
    backlog = None
    if is_store_up:
        view = service.metrics.backlog
        backlog = await view.look(service.storage, service.settings, service.clock)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        _Counts(
            service.metrics,
            is_store_up,
            backlog,
            service.settings.subscriber_types,
            service.endpoints.counts(service.clock.now()),
        )
    )
    registry.register(PoolStates(service.storage))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Counts(Collector):
    def __init__(
        self,
        metrics: Metrics,
        is_store_up: bool,
        backlog: Backlog | None,
        schemes: Words,
        endpoints: Mapping[str, int],
    ) -> None:
        self._metrics = metrics
        self._is_store_up = is_store_up
        self._backlog = backlog
        self._schemes = schemes
        self._endpoints = endpoints

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        build = GaugeMetricFamily("zaqar_notify_build_info", "Always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from _requests(metrics.requests)
        yield from _sockets(metrics.sockets)
        yield GaugeMetricFamily(
            "zaqar_notify_requests_in_flight",
            "Requests being answered, without long polls that wait.",
            value=metrics.in_flight(),
        )
        yield GaugeMetricFamily(
            "zaqar_notify_event_streams",
            "Event streams that are open.",
            value=metrics.event_streams,
        )
        yield _by(
            "reason",
            "overloads",
            "Connections and requests refused or ended because the process had too many.",
            metrics.overloads,
        )
        for name, sentence, count in (
            ("posts", "Posts that were acknowledged.", metrics.posts),
            ("messages_posted", "Messages in those posts.", metrics.messages_posted),
            ("claims", "Claims that found something.", metrics.claims),
            ("messages_claimed", "Messages in those claims.", metrics.messages_claimed),
            (
                "confirmations_withheld",
                "Confirmation mails that were not sent, since their address had its part.",
                metrics.confirmations_withheld,
            ),
            (
                "suppressed",
                "Deliveries that were not made, since their addressee has unsubscribed.",
                metrics.suppressed,
            ),
        ):
            yield CounterMetricFamily(f"zaqar_notify_{name}", sentence, value=count)
        yield _by(
            "quota",
            "quota_refusals",
            "Requests and deliveries that a quota of their project held back.",
            metrics.quota_refusals,
        )
        yield _counted(
            "filtered_posts",
            "Posts that message filters did not let pass unchanged.",
            ["filter", "result"],
            metrics.filtered,
        )
        yield _by(
            "reason",
            "deliveries_dropped",
            "Deliveries whose subscription is gone or not confirmed any more, and requests to confirm that came too late.",
            metrics.deliveries.dropped,
        )
        if metrics.certificate is not None:
            yield GaugeMetricFamily(
                "zaqar_notify_certificate_expires_at_seconds",
                "The end of the TLS certificate, seconds since 1970.",
                value=metrics.certificate.expires_at.timestamp(),
            )
        if metrics.engine is not None:
            yield _by(
                "result",
                "filtered_deliveries",
                "Deliveries that filter policies accepted (undecided ones, too) and rejected; jobs that met unreadable ones.",
                metrics.deliveries.filtered,
            )
            yield from _deliveries(metrics.deliveries, self._schemes)
            yield from _engine(metrics.engine)
            yield from _of_endpoints(metrics.deliveries, self._endpoints)
        yield GaugeMetricFamily(
            "zaqar_notify_store_up",
            "Whether the store acknowledges writes.",
            value=self._is_store_up,
        )
        if self._backlog is not None:
            yield from _backlog(self._backlog)
        if metrics.broker is not None:
            yield from _broker(metrics.broker)


def _sockets(sockets: SocketCounts) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "zaqar_notify_sockets_open", "WebSocket connections.", value=sockets.open
    )
    frames = CounterMetricFamily(
        "zaqar_notify_socket_frames",
        "Frames of clients that were answered, by action and status.",
        labels=["action", "status"],
    )
    for (action, status), count in list(sockets.frames.items()):
        frames.add_metric([action, str(status)], count)
    yield frames
    yield CounterMetricFamily(
        "zaqar_notify_socket_notifications",
        "Notifications that clients of WebSockets have received.",
        value=sockets.notifications,
    )
    yield GaugeMetricFamily(
        "zaqar_notify_socket_notifications_unproven",
        "Notifications under way to clients of WebSockets.",
        value=sockets.unproven,
    )


def _requests(requests: Requests) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "zaqar_notify_requests",
        "Requests by route, method and status.",
        labels=["route", "method", "status"],
    )
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    buckets: dict[tuple[str, str], list[int]] = {}
    for (route, method, status), tally in list(requests.items()):
        answered.add_metric([route, method, str(int(status))], tally.count)
        if not tally.count:
            continue
        seconds[route, method] += tally.seconds
        so_far = buckets.get((route, method), [0] * len(tally.buckets))
        buckets[route, method] = [a + b for a, b in zip(so_far, tally.buckets, strict=True)]
    yield answered
    took = HistogramMetricFamily(
        "zaqar_notify_request_seconds",
        "Time to the answer, without requests that asked to wait.",
        labels=["route", "method"],
    )
    for key, counts in buckets.items():
        took.add_metric(key, _cumulated(counts, BUCKETS_SECONDS), seconds[key])
    yield took


def _by(label: str, name: str, sentence: str, counts: Mapping[str, int]) -> Metric:
    """A counter with one label."""
    return _counted(
        name, sentence, [label], {(value,): count for value, count in list(counts.items())}
    )


def _counted(name: str, sentence: str, labels: Sequence[str], counts: Mapping[Any, int]) -> Metric:
    """A counter; its keys are the labels' values."""
    counted = CounterMetricFamily(f"zaqar_notify_{name}", sentence, labels=labels)
    for values, count in list(counts.items()):
        counted.add_metric(values, count)
    return counted


def _cumulated(counts: Iterable[int], bounds: Iterable[float]) -> list[tuple[str, float]]:
    """The buckets as Prometheus has them: each with all below it."""
    names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def _deliveries(deliveries: DeliveryCounts, schemes: Words) -> Iterator[Metric]:
    tries = CounterMetricFamily(
        "zaqar_notify_tries",
        "Attempts to deliver, by the subscriber's scheme and the verdict.",
        labels=["scheme", "verdict"],
    )
    counts = {(scheme, verdict.value): 0 for scheme in (*schemes, OTHER) for verdict in Verdict}
    for (scheme, verdict), count in list(deliveries.tries.items()):
        # A subscription may be older than the settings.
        counts[scheme if scheme in schemes else OTHER, verdict] += count
    for key, count in counts.items():
        tries.add_metric(key, count)
    yield tries
    delays = HistogramMetricFamily(
        "zaqar_notify_delivery_seconds",
        "From when a delivery was due to when it arrived, with all the tries that failed.",
        labels=["scheme"],
    )
    for scheme in schemes:
        tally = deliveries.delays.get(scheme, _NO_DELIVERY)
        delays.add_metric([scheme], _cumulated(tally.buckets, DELIVERY_SECONDS), tally.seconds)
    yield delays
    written = CounterMetricFamily(
        "zaqar_notify_deliveries_written",
        "Deliveries put off (retry), kept (held) and given up (undelivered).",
        labels=["queue"],
    )
    for queue, count in list(deliveries.written.items()):
        written.add_metric([queue], count)
    yield written


def _engine(engine: EngineState) -> Iterator[Metric]:
    troubles = GaugeMetricFamily(
        "zaqar_notify_troubles",
        "Faults that an operator must mend before deliveries go on.",
        labels=["scheme"],
    )
    for scheme, number in engine.troubles.items():
        troubles.add_metric([scheme], number)
    yield troubles
    yield GaugeMetricFamily(
        "zaqar_notify_tries_in_flight", "Tries under way.", value=engine.in_flight
    )
    yield GaugeMetricFamily(
        "zaqar_notify_jobs_in_hand",
        "Jobs and deliveries that this process works on.",
        value=engine.in_hand,
    )


def _of_endpoints(deliveries: DeliveryCounts, states: Mapping[str, int]) -> Iterator[Metric]:
    yield _by(
        "change",
        "endpoint_changes",
        "Receivers found failing (opened), probed, found answering again (closed), that asked for a pause (paused).",
        deliveries.endpoint_changes,
    )
    endpoints = GaugeMetricFamily(
        "zaqar_notify_endpoints",
        "Receivers that fail and are left alone (open), that may be probed (half_open), or that asked for a pause.",
        labels=["state"],
    )
    for state, count in states.items():
        endpoints.add_metric([state], count)
    yield endpoints


def _broker(broker: BrokerCounts) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "zaqar_notify_broker_up",
        "Whether the broker took the last wake-up of the workers; in a worker, whether it is heard.",
        value=broker.is_heard,
    )
    rings = CounterMetricFamily(
        "zaqar_notify_rings",
        "Wake-ups of the workers: sent, spared since enough waited, dropped by a broker's silence.",
        labels=["result"],
    )
    for result, count in list(broker.counts.items()):
        rings.add_metric([result], count)
    yield rings


def _backlog(backlog: Backlog) -> Iterator[Metric]:
    labels = ["queue", "partition"]
    owed = GaugeMetricFamily("zaqar_notify_owed", "Jobs and deliveries owed.", labels=labels)
    overdue = GaugeMetricFamily(
        "zaqar_notify_owed_overdue_seconds",
        "For how long the oldest that is due has been due.",
        labels=labels,
    )
    for part in backlog.owed:
        owed.add_metric([part.queue, str(part.partition)], part.count)
        overdue.add_metric([part.queue, str(part.partition)], part.overdue_seconds)
    yield owed
    yield overdue
    waiting = GaugeMetricFamily(
        "zaqar_notify_waiting",
        "Deliveries owed that wait: parked for a receiver that fails or is slow, held for a disabled subscription.",
        labels=["queue"],
    )
    waiting.add_metric(["parked"], backlog.parked)
    waiting.add_metric(["held"], backlog.held)
    yield waiting
    yield GaugeMetricFamily(
        "zaqar_notify_poison", "Jobs that no worker could finish.", value=backlog.poison
    )
    yield GaugeMetricFamily(
        "zaqar_notify_missing_keys",
        "Encryption keys under which something is stored, and which the settings lack.",
        value=backlog.missing_keys,
    )
