"""The API, put together: FastAPI around our resources."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from api.answers import Answer
from api.authentication import TrustedHeaders
from api.documentation import add_documentation
from api.errors import method_not_allowed, not_found
from api.openapi import describe
from api.routes import surfaces
from api.routing import Routing
from zaqar_notify import __version__
from zaqar_notify.auth import EVERYTHING, Policy
from zaqar_notify.service import Service

TITLE = "zaqar-notify"


class NotifyAPI(FastAPI):
    """FastAPI with the resources in front: it serves their documentation, and refuses the rest."""

    def __init__(self, service: Service, policy: Policy) -> None:
        super().__init__(
            title=TITLE,
            version=__version__,
            # Served by `add_documentation`: FastAPI's own page loads from elsewhere.
            docs_url=None,
            redoc_url=None,
            # It would name the host that the request names, and forget the public URL's path.
            redirect_slashes=False,
            # Asking for its providers costs each request as much as our own routing.
            telemetry={"tracing": False, "metrics": False, "logs": False},
            exception_handlers={HTTPException: _refuse},
        )
        self._service = service
        self._policy = policy
        authenticator = TrustedHeaders(service.settings, service.clock)
        self._surfaces = surfaces(service.settings, authenticator)
        add_documentation(self)

    def build_middleware_stack(self) -> ASGIApp:
        otherwise = super().build_middleware_stack()
        return Routing(self._service, self._surfaces, self._policy, otherwise)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            resources = [one for surface in self._surfaces for one in surface.resources]
            self.openapi_schema = describe(resources, title=TITLE, version=__version__)
        return self.openapi_schema


def create_app(service: Service, policy: Policy = EVERYTHING) -> FastAPI:
    """The ASGI application. The service's store is opened and closed by the caller."""
    return NotifyAPI(service, policy)


async def _refuse(request: Request, error: Exception) -> Response:
    """What FastAPI itself refuses is answered in the contract's form."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "GET")
        return _response(method_not_allowed(allow.encode()))
    return _response(not_found())


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, media_type="application/json")
