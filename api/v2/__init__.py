"""The Zaqar API, version 2: its routes, bodies, links and shapes."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from api.authentication import Authenticator
from api.errors import answer_to
from api.resources import Resource
from api.surfaces import Surface
from api.v2 import claims, discovery, health, messages, queues, quotas, subscriptions, tokens
from api.v2.admission import admit
from api.v2.documented import DOCUMENTED
from zaqar_notify.settings import Settings

__all__ = ["PREFIX", "RESOURCES", "surface"]

PREFIX = "/v2"

RESOURCES: tuple[Resource, ...] = (
    *discovery.RESOURCES,
    *queues.RESOURCES,
    *messages.RESOURCES,
    *claims.RESOURCES,
    *subscriptions.RESOURCES,
    *tokens.RESOURCES,
    *quotas.RESOURCES,
    *health.RESOURCES,
)
"""The resources that are served by default, in the order of the documentation."""


def surface(settings: Settings, authenticator: Authenticator) -> Surface:
    """The surface of version 2, with the resources that these settings serve."""
    added = health.ADMIN_RESOURCES if settings.admin_mode else ()
    errors = partial(answer_to, rate_status=HTTPStatus(int(settings.rate_status)))
    return Surface(PREFIX, (*RESOURCES, *added), authenticator, admit, errors, DOCUMENTED)
