"""Every surface, in the order of the documentation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from http import HTTPStatus

from api import v1, v1_1, v2
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
    errors = partial(answer_to, rate_status=HTTPStatus(int(settings.rate_status)))
    served = [Surface("", versions.RESOURCES, authenticator, admit, answer_to, DOCUMENTED)]
    for version in (v2, v1_1, v1):
        name = version.PREFIX[1:]
        if name in settings.versions:
            resources = version.RESOURCES + (version.OF_OPERATORS if settings.admin_mode else ())
            documented = replace(
                DOCUMENTED,
                group="" if version is v2 else f"{name} ",
                needs_headers=version is not v1,
            )
            served.append(
                Surface(version.PREFIX, resources, authenticator, version.admit, errors, documented)
            )
    return tuple(served)
