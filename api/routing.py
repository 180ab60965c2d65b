"""Surfaces as routes of FastAPI's router.

A request passes the application's middleware. The route of its surface finds the resource, asks the
gate for the answer, and sends two ASGI messages. docs/decisions/0009-routes-of-our-own.md gives the
reasons against FastAPI's own path operations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URLPath
from starlette.requests import Request
from starlette.routing import BaseRoute, Match, NoMatchFound, compile_path, replace_params
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from api.exchange import Exchange, exchange_of
from api.gate import Gate
from api.paths import Found, Paths
from api.records import WRITING, audit, note_failure, note_success
from api.refusals import PathUnknown
from api.requests import Call, CallerGone
from api.resources import Resource
from api.sending import send_answer
from api.surfaces import Surface
from api.turns import LARGE_BYTES, READ, Turns
from zaqar_notify.errors import NotifyError, RateExceeded, ServiceStopping
from zaqar_notify.metrics import CALLER_GONE, OVER_RATE
from zaqar_notify.service import Service


class ResourceRoute(BaseRoute):
    """The entry of a resource in `app.routes`. The route of its surface matches and answers."""

    def __init__(self, resource: Resource) -> None:
        self.path = resource.path
        self.name = resource.name
        self.methods = frozenset((*resource.by_method, "OPTIONS"))
        self.endpoint = resource
        _, self._format, self._convertors = compile_path(resource.path)

    def matches(self, _scope: Scope) -> tuple[Match, Scope]:
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        if name != self.name or path_params.keys() != self._convertors.keys():
            raise NoMatchFound(name, path_params)
        path, _ = replace_params(self._format, self._convertors, path_params)
        return URLPath(path=path, protocol="http")


class SurfaceRoute(BaseRoute):
    """All resources of a surface as one route; `routes` lists them."""

    def __init__(self, surface: Surface, gate: Gate, turns: Turns, service: Service) -> None:
        self.path = surface.prefix
        self.routes = [ResourceRoute(resource) for resource in surface.resources]
        self._surface = surface
        self._gate = gate
        self._turns = turns
        self._paths = Paths(surface.resources, surface.prefix)
        self._public_path = service.settings.public_path
        self._is_audited = service.settings.audit
        self._service = service
        for resource in surface.resources:
            service.metrics.requests.expect(resource.path, resource.by_method)

    def find(self, scope: Scope) -> Found | None:
        return self._paths.find(scope) if scope["type"] == "http" else None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found = self.find(scope)
        return (Match.NONE, {}) if found is None else (Match.FULL, _in_scope(found))

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        for route in self.routes:
            try:
                return route.url_path_for(name, **path_params)
            except NoMatchFound:
                continue
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = scope["endpoint"], scope["path_params"], scope["root_path"]
        await self.answer(found, scope, receive, send)

    async def answer(self, found: Found, scope: Scope, receive: Receive, send: Send) -> None:
        resource, names, before = found
        exchange = exchange_of(scope)
        exchange.route = resource.path
        call = Call(scope, receive, exchange.request_id, before, self._public_path, names)
        call.wire = self._surface.prefix
        call.read = scope.get(READ)
        if self._is_audited and call.method in WRITING:
            exchange.on_answer = partial(_audit, call, resource)
        try:
            answer = await self._gate.answer(self._surface, resource, call)
            note_success(call, self._service, exchange.facts)
        except CallerGone:
            exchange.note(CALLER_GONE)
            return
        except asyncio.CancelledError:  # The server stops without this request.
            answer = self._surface.errors(ServiceStopping(), call)
        except Exception as error:  # Outermost place: a defect is logged here, once.
            note_failure(error, self._service, exchange.facts())
            handler = handler_of(error, scope)
            if handler is not None:
                scope.update(_in_scope(found))
                await _answer_by(handler, error, scope, receive, send)
                return
            answer = self._surface.errors(error, call)
            if isinstance(error, RateExceeded):
                exchange.counted_as = OVER_RATE
        exchange.is_timed = not (call.is_waiting or exchange.counted_as)
        exchange.must_close = call.must_close
        try:
            await send_answer(answer, call, receive, send)
        except Exception as error:  # From a body in parts: it stays cut short.
            note_failure(error, self._service, exchange.facts())
            exchange.is_cut_short = True
        size = len(answer.whole)
        if size > LARGE_BYTES and not resource.is_open and READ in scope:
            await self._turns.of(call.project).unread(size, scope[READ])


def _in_scope(found: Found) -> Scope:
    """The entries that Starlette's routes add to the scope of a request that they match."""
    resource, names, before = found
    return {"endpoint": resource, "path_params": names, "root_path": before}


def _audit(call: Call, resource: Resource, exchange: Exchange, status: int) -> None:
    audit(call, resource, status, exchange.facts())


class ShortWay:
    """Takes requests straight to the surfaces at the head of the router.

    They need neither FastAPI's handling of exceptions and dependencies nor the router itself. Only
    other routes need these.
    """

    def __init__(self, otherwise: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._otherwise = otherwise
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route in self._routes:
            if not isinstance(route, SurfaceRoute):
                break
            found = route.find(scope)
            if found is not None:
                await route.answer(found, scope, receive, send)
                return
        await self._otherwise(scope, receive, send)


class FaultRoute(BaseRoute):
    """Takes the requests that are refused on every path, before later routes can answer them."""

    def __init__(self, surfaces: Sequence[Surface], gate: Gate, service: Service) -> None:
        self._surfaces = surfaces
        self._gate = gate
        self._public_path = service.settings.public_path

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        fault = self._gate.fault(call_of(scope, _receive_nothing, self._public_path))
        return (Match.NONE, {}) if fault is None else (Match.FULL, {"endpoint": fault})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = call_of(scope, receive, self._public_path)
        answer = _surface_of(call, self._surfaces).errors(scope["endpoint"], call)
        await send_answer(answer, call, receive, send)


class UnknownPaths:
    """Answers unknown paths in the form of errors of the surface that they lie below."""

    def __init__(
        self, surfaces: Sequence[Surface], gate: Gate, service: Service, otherwise: ASGIApp
    ) -> None:
        self._surfaces = surfaces
        self._gate = gate
        self._public_path = service.settings.public_path
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            call = call_of(scope, receive, self._public_path)
            surface = _surface_of(call, self._surfaces)
            error = await self._error(surface, call)
            if error is not None:
                await send_answer(surface.errors(error, call), call, receive, send)
                return
        await self._otherwise(scope, receive, send)

    async def _error(self, surface: Surface, call: Call) -> Exception | None:
        """None: FastAPI answers. Only callers with a valid token learn which paths there are."""
        try:
            await self._gate.caller(surface, call)
        except NotifyError as error:
            return error
        return PathUnknown() if surface.prefix else None


def _surface_of(call: Call, surfaces: Sequence[Surface]) -> Surface:
    """The first surface whose prefix the path has; the last surface has no prefix."""
    return next(surface for surface in surfaces if surface.is_below(call.path))


def call_of(scope: Scope, receive: Receive, public_path: str) -> Call:
    """A request to no resource."""
    root_path = scope.get("root_path", "")
    return Call(scope, receive, exchange_of(scope).request_id, root_path, public_path, {})


def handler_of(error: Exception, scope: Scope) -> ExceptionHandler | None:
    """The handler that was added to the application for such an error; None: there is none.

    A handler for `Exception` gets no error of the domain.
    """
    handlers = scope["app"].exception_handlers
    most_general = NotifyError if isinstance(error, NotifyError) else Exception
    kinds = type(error).__mro__
    found = (handlers.get(kind) for kind in kinds[: kinds.index(most_general) + 1])
    return next((handler for handler in found if handler is not None), None)


async def _answer_by(
    handler: ExceptionHandler, error: Exception, scope: Scope, receive: Receive, send: Send
) -> None:
    request: Any = Request(scope, receive)
    if iscoroutinefunction(handler):
        response = await handler(request, error)
    else:
        response = await run_in_threadpool(handler, request, error)
    await response(scope, receive, send)


async def _receive_nothing() -> Any:
    return {"type": "http.disconnect"}
