"""Pools as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from zaqar_notify.storage.planes import Storage


class PoolStates(Collector):
    """Whether each registered pool answers this process."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "zaqar_notify_pool_up", "Whether the pool's store answers.", labels=["pool"]
        )
        for pool in sorted(self._storage.open_pools.registered.pools):
            up.add_metric([pool], not self._storage.pools.is_away(pool))
        yield up
