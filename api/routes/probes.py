"""The probes on the API's own address, with their documentation."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Error
from api.exchange import exchange_of
from api.openapi import schema_of
from zaqar_notify.models import JsonObject
from zaqar_notify.operations.probes import ALIVE, METRICS, READY, Probes
from zaqar_notify.service import Service


class Counted:
    """An ASGI application at one path, which is counted under this path."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = self._path
        exchange.is_timed = True
        await self._app(scope, receive, send)


def routes(service: Service) -> list[Route]:
    """The routes of the probes that these settings serve."""
    probes = Probes(service)
    paths = (ALIVE, READY, METRICS) if service.settings.metrics else (ALIVE, READY)
    for path in paths:
        service.metrics.requests.expect(path, ("GET", "HEAD"))
    return [Route(path, Counted(probes, path), name=path[1:]) for path in paths]


def _probe(path: str, summary: str, description: str, responses: JsonObject) -> JsonObject:
    described = {
        "operationId": f"get_{path[1:]}",
        "summary": summary,
        "description": description,
        "tags": ["probes"],
        "parameters": [],
        "responses": responses,
    }
    return {"get": described}


def _json(example: msgspec.Struct) -> JsonObject:
    kind = type(example)
    return {
        "application/json": {"schema": schema_of(kind), "example": msgspec.to_builtins(example)}
    }


class Ready(msgspec.Struct, forbid_unknown_fields=True):
    """The process can serve requests."""

    ready: Literal[True]


KINDS = (Ready,)

DOCUMENTED: JsonObject = {
    ALIVE: _probe(
        ALIVE,
        "Ask whether this process is alive",
        "For supervisors, which restart a process that is not alive.",
        {"204": {"description": "It is; the store was not asked"}},
    ),
    READY: _probe(
        READY,
        "Ask whether this process can serve requests",
        "For load balancers, which send requests to ready processes.",
        {
            "200": {
                "description": "It can: the store acknowledges writes, and no stop is near",
                "content": _json(Ready(ready=True)),
            },
            "503": {
                "description": "It can't, and why",
                "content": _json(
                    Error(
                        "Service temporarily unavailable",
                        "The service is stopping. Please retry in a moment.",
                    )
                ),
            },
        },
    ),
    METRICS: _probe(
        METRICS,
        "Show the metrics of the process that answers",
        "Not served when the setting ZAQAR_METRICS is off.",
        {"200": {"description": "Prometheus' text format"}},
    ),
}
