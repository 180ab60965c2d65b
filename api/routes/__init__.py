"""Every resource, in the order of the documentation."""

from __future__ import annotations

from api.resources import Resource
from api.routes import claims, discovery, health, messages, queues, subscriptions

__all__ = ["RESOURCES"]

RESOURCES: tuple[Resource, ...] = (
    *discovery.RESOURCES,
    *queues.RESOURCES,
    *messages.RESOURCES,
    *claims.RESOURCES,
    *subscriptions.RESOURCES,
    *health.RESOURCES,
)
