"""`/docs`: Swagger UI, with everything that its page loads served from here: it works without a network.

Addresses are relative to the page, so that it works below a prefix that a proxy adds.
"""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

ASSETS = Path(fastapi_offline.__file__).with_name("static")

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'"
)
"""Keeps a browser from loading anything from elsewhere; the page starts with a script and styles of its own."""


def add_documentation(app: FastAPI) -> None:
    """Serve the page of the application's OpenAPI document, and what it loads."""

    async def page(_request: Request) -> Response:
        shown = get_swagger_ui_html(
            title=app.title,
            openapi_url="openapi.json",
            swagger_js_url="docs/assets/swagger-ui-bundle.js",
            swagger_css_url="docs/assets/swagger-ui.css",
            swagger_favicon_url="docs/assets/favicon.png",
        )
        shown.headers["Content-Security-Policy"] = POLICY
        return shown

    app.add_route("/docs", page, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(directory=ASSETS))
