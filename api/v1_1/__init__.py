"""The Zaqar API, version 1.1. docs/api.md says how it differs from version 2."""

from __future__ import annotations

from api.resources import Resource
from api.v1_1 import messages, queues
from api.zaqar import claims, health, home
from api.zaqar.admission import admit

__all__ = ["OF_OPERATORS", "PREFIX", "RESOURCES", "admit"]

PREFIX = "/v1.1"

RESOURCES: tuple[Resource, ...] = (
    *home.resources(PREFIX, home.ENTRIES),
    *queues.RESOURCES,
    *messages.RESOURCES,
    *claims.resources(PREFIX),
    health.ping_resource(PREFIX),
)

OF_OPERATORS = (health.health_resource(PREFIX),)
"""The resources that are served with `ZAQAR_ADMIN_MODE`, too."""
