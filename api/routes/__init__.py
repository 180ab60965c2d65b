"""Every resource, in the order of the documentation."""

from __future__ import annotations

from api.resources import Resource
from api.routes import claims, discovery, health, messages, metrics, queues, subscriptions
from zaqar_notify.settings import Settings

__all__ = ["RESOURCES", "resources"]

RESOURCES: tuple[Resource, ...] = (
    *discovery.RESOURCES,
    *queues.RESOURCES,
    *messages.RESOURCES,
    *claims.RESOURCES,
    *subscriptions.RESOURCES,
    *health.RESOURCES,
    *metrics.RESOURCES,
)
"""What is served by default."""


def resources(settings: Settings) -> tuple[Resource, ...]:
    """What is served with these settings; what is not is answered like any unknown path."""
    hidden = () if settings.metrics else metrics.RESOURCES
    added = health.ADMIN_RESOURCES if settings.admin_mode else ()
    return tuple(each for each in (*RESOURCES, *added) if each not in hidden)
