"""The probes of a process: whether it is alive and ready, and its metrics.

One small ASGI application, wherever it is asked: on the API's own address, and on the metrics port of every
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from zaqar_notify.errors import ServiceStopping, StorageUnavailable
from zaqar_notify.operations.exposition import CONTENT_TYPE, exposition
from zaqar_notify.service import Service

ALIVE, READY, METRICS = "/healthz", "/readyz", "/metrics"

_ALLOWED = "GET, HEAD, OPTIONS"


class Probes:
    """Answers `GET` of its three paths. Refusals have the form of the API's."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._exposing = asyncio.Lock()
        self._next_text: asyncio.Task[bytes] | None = None
        self._answers: dict[str, Callable[[], Awaitable[Response]]] = {
            ALIVE: self._alive,
            READY: self._ready,
            METRICS: self._metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        response = await self._answer(scope["method"], path)
        await response(scope, receive, send)

    async def _answer(self, method: str, path: str) -> Response:
        answer = self._answers.get(path)
        if answer is None:
            return JSONResponse({"title": "404 Not Found"}, 404)
        if method == "OPTIONS":
            return Response(headers={"Allow": _ALLOWED})
        if method not in ("GET", "HEAD"):
            return JSONResponse({"title": "405 Method Not Allowed"}, 405, {"Allow": _ALLOWED})
        return await answer()

    async def _alive(self) -> Response:
        return Response(status_code=204)

    async def _ready(self) -> Response:
        health = self._service.health
        if health.is_draining:
            return _unavailable(str(ServiceStopping()))
        try:
            await health.readiness.check(self._service.storage)
        except StorageUnavailable as error:
            health.outage.note(error)
            return _unavailable(error.for_clients)
        health.outage.note_end()
        return JSONResponse({"ready": True})

    async def _metrics(self) -> Response:
        if self._next_text is None:
            self._next_text = asyncio.create_task(self._expose())
        text = await asyncio.shield(self._next_text)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    async def _expose(self) -> bytes:
        """The metrics for all who asked until this begins.

        They take some milliseconds of the event loop, and need no token.
        """
        async with self._exposing:
            self._next_text = None
            return await exposition(self._service)


def _unavailable(description: str) -> Response:
    return JSONResponse(
        {"title": "Service temporarily unavailable", "description": description},
        503,
        {"Retry-After": "1"},
    )
