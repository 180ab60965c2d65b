"""The API, put together: one FastAPI application with our resources in its router."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.answers import Answer
from api.authentication import authenticator_of
from api.browsers import for_browsers
from api.documentation import add_documentation
from api.errors import failure, method_not_allowed, refused
from api.exchange import Exchange, exchange_of
from api.gate import Gate
from api.openapi import describe
from api.push.route import routes as websocket_routes
from api.requests import request_ids
from api.routes import probes, surfaces
from api.routing import FaultRoute, ShortWay, SurfaceRoute, UnknownPaths
from api.turns import Turns
from zaqar_notify import __version__
from zaqar_notify.auth import Policy, load_policy
from zaqar_notify.auth.keystone import keystone_of
from zaqar_notify.delivery.subscribers import options_schema
from zaqar_notify.metrics import METHODS, OTHER
from zaqar_notify.service import Service

if TYPE_CHECKING:
    from zaqar_notify.auth.keystone.validator import Keystone

TITLE = "zaqar-notify"

logger = logging.getLogger(__name__)


class NotifyAPI(FastAPI):
    """A FastAPI application with our resources.

    It makes an `Exchange` for each request before any middleware runs, and adds our resources to
    the OpenAPI document.
    """

    def __init__(self, service: Service, policy: Policy, keystone: Keystone | None) -> None:
        authenticator = authenticator_of(service, keystone)
        self._surfaces = surfaces(service.settings, authenticator)
        self._request_ids = request_ids()
        turns = Turns(most_buffered_bytes=service.settings.max_buffered_bytes)
        gate = Gate(service, policy, turns)
        # The busy surface first; `_surface_of` needs the one without a prefix last.
        by_prefix = sorted(self._surfaces, key=lambda surface: not surface.prefix)
        self._probes = probes.routes(service)
        super().__init__(
            title=TITLE,
            summary="Messages and notifications over the OpenStack Zaqar API",
            version=__version__,
            routes=[
                *(SurfaceRoute(surface, gate, turns, service) for surface in by_prefix),
                FaultRoute(by_prefix, gate, service),
                *websocket_routes(service, authenticator, gate, turns, self._request_ids),
                *self._probes,
            ],
            # A relative address also holds behind a proxy and below a prefix.
            servers=[{"url": "."}],
            root_path_in_servers=False,
            # `add_documentation` serves the page, because FastAPI's page loads from other hosts.
            docs_url=None,
            redoc_url=None,
            # It serves the document, too: FastAPI would encode it for each request.
            openapi_url=None,
            # A redirect would name the request's host and leave out the public URL's path.
            redirect_slashes=False,
            # FastAPI's search for telemetry providers costs as much as our own routing.
            telemetry={"tracing": False, "metrics": False, "logs": False},
            # 500 instead of Exception: `handler_of` must find only handlers that were added.
            exception_handlers={HTTPException: _refuse, 500: _fail},
        )
        self._settings = service.settings
        self._kinds = service.kinds
        self._public_path = service.settings.public_path
        self._requests = service.metrics.requests
        self._requests.expect(OTHER, METHODS)
        self.router.default = UnknownPaths(by_prefix, gate, service, otherwise=self.router.default)
        add_documentation(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._public_path and not scope.get("root_path"):
            _place_below(self._public_path, scope)
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        exchange = Exchange(scope, send, next(self._request_ids), self._requests)
        state = scope.setdefault("state", {})
        state["exchange"] = exchange
        try:
            # FastAPI's own `__call__` would look for telemetry.
            scope["app"] = self
            if self.middleware_stack is None:
                self.middleware_stack = self.build_middleware_stack()
            await self.middleware_stack(scope, receive, exchange.send)
        finally:
            # Its `send` refers to the scope: the cycle would wait for the garbage collector.
            state.pop("exchange", None)

    def build_middleware_stack(self) -> ASGIApp:
        """FastAPI's stack; without added middleware, our surfaces come before it.

        The headers for browsers are outside of it, so that answers to defects have them, too.
        """
        stack = super().build_middleware_stack()
        if not self.user_middleware:
            stack = ShortWay(stack, self.router.routes)
        return for_browsers(stack, self._settings)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document of added routes, with our resources before them."""
        if self.openapi_schema is None:
            document = self.openapi_schema = super().openapi()
            described = describe(self._surfaces, probes.KINDS)
            probing = {route.path: probes.DOCUMENTED[route.path] for route in self._probes}
            document["paths"] = described["paths"] | probing | document["paths"]
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= described["components"]["schemas"]
            schemas["SubscriptionOptions"] = options_schema(self._kinds)
            document["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"}
            }
            # Without a token, where the setting ZAQAR_AUTH asks for none.
            document["security"] = [{}, {"token": []}]
        return self.openapi_schema


def create_app(
    service: Service, policy: Policy | None = None, keystone: Keystone | None = None
) -> FastAPI:
    """The ASGI application. The caller of this function opens and closes the service's store.

    Args:
        policy: None takes the one that the settings name; it does not follow the changes of its file.
        keystone: The validator of Keystone's tokens; None opens one if the settings believe them.
    """
    settings = service.settings
    return NotifyAPI(service, policy or load_policy(settings), keystone or keystone_of(settings))


def _place_below(root_path: str, scope: Scope) -> None:
    """Put the path below the root path, as ASGI requires. Some proxies take the root path away."""
    if "path" not in scope:
        return  # The application's own start and end.
    scope["root_path"] = root_path
    if not f"{scope['path']}/".startswith(f"{root_path}/"):
        scope["path"] = root_path + scope["path"]
        scope["raw_path"] = root_path.encode() + (scope.get("raw_path") or b"")


async def _refuse(_request: Request, error: HTTPException) -> Response:
    """Answer a refusal of FastAPI, or of an added route, in the contract's form."""
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _response(method_not_allowed(headers.pop("Allow", "GET").encode()), headers)
    return _response(refused(error.status_code, error.detail), headers)


async def _fail(request: Request, error: Exception) -> Response:
    """Answer a defect in added routes or middleware; `SurfaceRoute` answers the others."""
    exchange = exchange_of(request.scope)
    facts = {"action": "request_failed", **exchange.facts()}
    logger.error("request failed", extra=facts, exc_info=error)
    return _response(failure(exchange.request_id), {})


def _response(answer: Answer, headers: dict[str, str]) -> Response:
    headers |= {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, media_type="application/json")
