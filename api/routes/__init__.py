"""Every resource, in the order of the documentation."""

from __future__ import annotations

from api.resources import Resource
from api.routes import claims, messages

__all__ = ["RESOURCES"]

RESOURCES: tuple[Resource, ...] = (*messages.RESOURCES, *claims.RESOURCES)
