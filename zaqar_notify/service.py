"""The first argument of each service function: the parts that they work with."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial

from zaqar_notify.clock import Clock
from zaqar_notify.delivery.certificates import Certificates
from zaqar_notify.delivery.endpoint_states import EndpointStates
from zaqar_notify.delivery.filters import Filters, load_filters
from zaqar_notify.delivery.fitting import Schemas
from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.trusts import Delegations
from zaqar_notify.health import Health
from zaqar_notify.metrics import DeliveryCounts, Metrics
from zaqar_notify.models import JsonObject, QueueRef
from zaqar_notify.ports import Doorbell
from zaqar_notify.quotas import Quotas, Rates
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import Partition
from zaqar_notify.storage.planes import Storage

logger = logging.getLogger(__name__)


def note_dropped(counts: DeliveryCounts, queue: QueueRef, subscription_id: str, count: int) -> None:
    """Count and log deliveries that waited for a subscription and are left out for good, because it is gone."""
    counts.dropped["gone"] += count
    logger.warning(
        "The subscription is gone; its waiting deliveries are dropped",
        extra={
            "action": "deliveries_dropped",
            "subscription_id": subscription_id,
            "project": queue.project,
            "queue": queue.name,
            "count": count,
        },
    )


@dataclass(frozen=True, slots=True)
class Service:
    storage: Storage
    settings: Settings
    clock: Clock
    doorbell: Doorbell
    kinds: Kinds
    delegations: Delegations | None = None
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)
    schemas: Schemas = field(default_factory=Schemas)
    rates: Rates = field(default_factory=Rates)
    """Shared by the processes of an API."""
    endpoints: EndpointStates = field(default_factory=EndpointStates)
    """Which fail or pause, as far as this process has read."""
    quotas: Quotas = field(init=False)
    certificates: Certificates = field(init=False)
    filters: Filters | None = field(init=False)
    """None: the settings name none."""

    def __post_init__(self) -> None:
        quotas = Quotas(
            self.storage,
            self.settings,
            self.clock,
            rates=self.rates,
            refusals=self.metrics.quota_refusals,
        )
        object.__setattr__(self, "quotas", quotas)
        certificates = Certificates(self.storage, self.settings, self.clock)
        object.__setattr__(self, "certificates", certificates)
        object.__setattr__(self, "filters", self._filters())
        self.storage.when_dropped(partial(note_dropped, self.metrics.deliveries))

    def _filters(self) -> Filters | None:
        """Raises StartRefused: a filter is unknown, or can't be used."""
        filters = load_filters(self.settings)
        return Filters(filters, self._metadata_of, self.metrics.filtered) if filters else None

    async def _metadata_of(self, ref: QueueRef) -> JsonObject:
        queue = await self.storage.queues.get(ref)
        return {} if queue is None else queue.metadata

    def partition_of(self, ref: QueueRef) -> Partition:
        """In which the deliveries of a client's queue are owed, in the queue's pool."""
        return partition_of(ref, self.settings.delivery_partitions, self.storage.pool_of(ref))
