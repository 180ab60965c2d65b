"""CORS: which pages may call the API from a browser, with which headers."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from zaqar_notify.settings import Settings

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

REQUEST_HEADERS = (
    "Authorization",
    "Client-ID",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "URL-Expires",
    "URL-Methods",
    "URL-Paths",
    "URL-Signature",
    "X-Auth-Token",
    "X-OpenStack-Request-Id",
    "X-Project-ID",
    "X-Tenant-Id",
)
"""Headers that a page may send, beside those that browsers always allow."""

ANSWER_HEADERS = (
    "Location",
    "Retry-After",
    "Warning",
    "WWW-Authenticate",
    "X-OpenStack-Request-Id",
)
"""Headers of answers that a page may read, beside those that browsers always show."""

KEPT_SECONDS = 7200
"""How long a browser remembers the answer to a preflight. Chromium keeps none for longer."""


def for_browsers(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application, for pages of the allowed origins, too; unchanged when there are none.

    It answers preflights before anything else sees them, because they carry no credentials. Cookies
    are not used, so credentials mode stays off.
    """
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=ANSWER_HEADERS,
        max_age=KEPT_SECONDS,
    )
