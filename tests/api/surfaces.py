"""Every surface there is, with its resources."""

from __future__ import annotations

from api.authentication import TrustedHeaders
from api.routes import surfaces
from api.surfaces import Surface
from zaqar_notify.settings import VERSIONS, Settings


def surfaces_with(settings: Settings) -> tuple[Surface, ...]:
    return surfaces(settings, TrustedHeaders(settings))


RESOURCES = tuple(
    resource
    for surface in surfaces_with(Settings(versions=VERSIONS, admin_mode=True))
    for resource in surface.resources
)
