"""Every surface, in the order of the documentation."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from api import v2
from api.authentication import Authenticator
from api.errors import answer_to
from api.routes import versions
from api.surfaces import Surface
from api.zaqar.admission import admit
from api.zaqar.documented import DOCUMENTED
from zaqar_notify.settings import Settings

__all__ = ["surfaces"]


def surfaces(settings: Settings, authenticator: Authenticator) -> tuple[Surface, ...]:
    """The surfaces that these settings serve. Paths of the others are answered as unknown paths."""
    resources = v2.RESOURCES + (v2.OF_OPERATORS if settings.admin_mode else ())
    errors = partial(answer_to, rate_status=HTTPStatus(int(settings.rate_status)))
    return (
        Surface("", versions.RESOURCES, authenticator, admit, answer_to, DOCUMENTED),
        Surface(v2.PREFIX, resources, authenticator, admit, errors, DOCUMENTED),
    )
