"""The Zaqar API, version 2."""

from __future__ import annotations

from api.resources import Resource
from api.v2 import (
    certificates,
    deliveries,
    discovery,
    flavors,
    links,
    messages,
    moves,
    pausing,
    pools,
    queues,
    quotas,
    replays,
    subscriptions,
    suppressions,
    tokens,
    topics,
    trying,
)
from api.zaqar import claims, health
from api.zaqar.admission import admit

__all__ = ["OF_OPERATORS", "PREFIX", "RESOURCES", "admit"]

PREFIX = "/v2"

RESOURCES: tuple[Resource, ...] = (
    *discovery.RESOURCES,
    *queues.RESOURCES,
    *messages.RESOURCES,
    *claims.resources(PREFIX),
    *subscriptions.RESOURCES,
    *links.RESOURCES,
    *suppressions.RESOURCES,
    *pausing.RESOURCES,
    *trying.RESOURCES,
    *deliveries.OF_QUEUES,
    *replays.RESOURCES,
    *topics.RESOURCES,
    *deliveries.RESOURCES,
    *tokens.RESOURCES,
    *quotas.RESOURCES,
    *certificates.RESOURCES,
    health.ping_resource(PREFIX),
)
"""The resources that are served by default, in the order of the documentation."""

OF_OPERATORS = (
    *pools.RESOURCES,
    *flavors.RESOURCES,
    *moves.RESOURCES,
    health.health_resource(PREFIX),
)
"""The resources that are served with `ZAQAR_ADMIN_MODE`, too."""
