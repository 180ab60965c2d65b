"""The Zaqar API, version 2: its routes, bodies, links and shapes."""

from __future__ import annotations

from api.resources import Resource
from api.v2 import claims, discovery, health, messages, queues, subscriptions
from zaqar_notify.settings import Settings

__all__ = ["RESOURCES", "resources"]

RESOURCES: tuple[Resource, ...] = (
    *discovery.RESOURCES,
    *queues.RESOURCES,
    *messages.RESOURCES,
    *claims.RESOURCES,
    *subscriptions.RESOURCES,
    *health.RESOURCES,
)
"""In the order of the documentation; what is served by default."""


def resources(settings: Settings) -> tuple[Resource, ...]:
    """What is served with these settings."""
    return (*RESOURCES, *health.ADMIN_RESOURCES) if settings.admin_mode else RESOURCES
