"""`/openapi.json`, and `/docs`: Swagger UI without a network, because the service itself serves every file of its page.

Addresses are relative to the page. So the page works below a prefix that a proxy adds.
"""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
import orjson
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from zaqar_notify.models import JsonObject

ASSETS = Path(fastapi_offline.__file__).with_name("static")

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'"
)
"""Keeps a browser from loading files of other hosts."""


def add_documentation(app: FastAPI) -> None:
    """Serve the application's OpenAPI document, its page, and the files that the page loads."""
    encoded: list[tuple[JsonObject, bytes]] = []
    """The document and its text. It is served without a token, so a request must cost little."""

    async def document(_request: Request) -> Response:
        schema = app.openapi()
        if not encoded or encoded[0][0] is not schema:
            encoded[:] = [(schema, orjson.dumps(schema))]
        return Response(encoded[0][1], media_type="application/json")

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

    app.add_route("/openapi.json", document, include_in_schema=False)
    app.add_route("/docs", page, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(directory=ASSETS))
