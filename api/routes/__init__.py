"""Every surface, in the order of the documentation."""

from __future__ import annotations

from api import v2
from api.authentication import Authenticator
from api.errors import answer_to
from api.routes import versions
from api.surfaces import Surface
from api.v2.admission import admit
from api.v2.documented import DOCUMENTED
from zaqar_notify.settings import Settings

__all__ = ["surfaces"]


def surfaces(settings: Settings, authenticator: Authenticator) -> tuple[Surface, ...]:
    """The surfaces that these settings serve. Paths of the others are answered as unknown paths."""
    return (
        Surface("", versions.RESOURCES, authenticator, admit, answer_to, DOCUMENTED),
        v2.surface(settings, authenticator),
    )
