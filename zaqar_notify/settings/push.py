"""The settings of connections on which the service sends by itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from zaqar_notify.settings.section import Count, Seconds, Section


class PushSettings(Section):
    """Zaqar's WebSocket API: requests and notifications on one connection."""

    title = "WebSocket"

    websocket: bool = Field(
        True, description="Serve the WebSocket API, at / and /v2 of the API's own port."
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
