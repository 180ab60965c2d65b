"""Every surface, in the order of the documentation."""

from __future__ import annotations

from api import v2
from api.authentication import Authenticator
from api.errors import answer_to
from api.resources import Resource
from api.routes import metrics, probes, versions
from api.surfaces import Surface
from api.v2.admission import admit
from zaqar_notify.settings import Settings

__all__ = ["RESOURCES", "surfaces"]

RESOURCES: tuple[Resource, ...] = (
    *versions.RESOURCES,
    *v2.RESOURCES,
    *probes.RESOURCES,
    *metrics.RESOURCES,
)
"""What is served by default."""


def surfaces(settings: Settings, authenticator: Authenticator) -> tuple[Surface, ...]:
    """What is served with these settings; what is not is answered like any unknown path."""

    def open_to_all(resources: tuple[Resource, ...]) -> Surface:
        return Surface("", resources, authenticator, admit, answer_to)

    return (
        open_to_all(versions.RESOURCES),
        v2.surface(settings, authenticator),
        open_to_all((*probes.RESOURCES, *(metrics.RESOURCES if settings.metrics else ()))),
    )
