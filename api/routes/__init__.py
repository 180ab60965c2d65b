"""Every resource, in the order of the documentation."""

from __future__ import annotations

from api import v2
from api.resources import Resource
from api.routes import metrics, probes, versions
from zaqar_notify.settings import Settings

__all__ = ["RESOURCES", "resources"]

RESOURCES: tuple[Resource, ...] = (
    *versions.RESOURCES,
    *v2.RESOURCES,
    *probes.RESOURCES,
    *metrics.RESOURCES,
)
"""What is served by default."""


def resources(settings: Settings) -> tuple[Resource, ...]:
    """What is served with these settings; what is not is answered like any unknown path."""
    hidden = () if settings.metrics else metrics.RESOURCES
    served = (*versions.RESOURCES, *v2.resources(settings), *probes.RESOURCES, *metrics.RESOURCES)
    return tuple(each for each in served if each not in hidden)
