"""The settings of connections on which the service sends by itself."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from zaqar_notify.settings.section import Count, Seconds, Section

_WEBSOCKET_URL = re.compile(r"wss?://[^/?#\s\"]+(/[A-Za-z0-9._~-]+)*/?")


class PushSettings(Section):
    """Zaqar's WebSocket API: requests and notifications on one connection."""

    title = "WebSocket"

    websocket: bool = Field(
        True, description="Serve the WebSocket API, at / and /v2 of the API's own port."
    )
    websocket_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0,
        description="A second port of the API, where any path is the WebSocket's; Zaqar's is 9000. 0: none.",
    )
    websocket_url: str = Field(
        "",
        description="Address of the WebSocket API as clients see it, e.g. wss://HOST:9000; empty: that of ZAQAR_PUBLIC_URL.",
    )
    websocket_authentication_seconds: Annotated[float, Field(gt=0)] = Field(
        10,
        description="Time for a new connection to authenticate, where ZAQAR_AUTH asks for tokens, seconds.",
    )
    websocket_idle_seconds: Seconds = Field(
        3600,
        description="A connection without frames and without subscriptions is closed after this time, seconds; 0: never.",
    )
    websocket_grace_seconds: Count = Field(
        30,
        description="For so long the subscription of a connection that is gone waits for its client, seconds; then it ends.",
    )
    websocket_ping_seconds: Annotated[float, Field(gt=0)] = Field(
        20,
        description="Pause between pings, and the time for each answer; without it the connection is closed, seconds.",
    )
    websocket_max_frame_bytes: Count = Field(
        1_048_576, description="Largest message of a client on a WebSocket, bytes."
    )
    websocket_max_per_project: Count = Field(
        2500, description="Most WebSocket connections of one project to one process."
    )

    @field_validator("websocket_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not _WEBSOCKET_URL.fullmatch(value):
            raise ValueError("must be like wss://HOST:PORT/PATH, the path of A-Z a-z 0-9 . _ ~ -")
        return value
