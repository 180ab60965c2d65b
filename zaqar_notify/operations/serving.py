"""How a process serves ASGI applications: addresses to listen on, and a server inside of its event loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp


class EmbeddedServer(uvicorn.Server):
    """Uvicorn for one application. It leaves signals and the log to the process that it is a part of."""

    def __init__(self, app: ASGIApp, *, stop_seconds: float, **options: Any) -> None:
        """`stop_seconds` is how long requests under way may hold up its end."""
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(stop_seconds),
                **{"ws": "none", **options},
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn would raise them again after its end."""
        yield


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to the address; the server that takes it begins to listen.

    Raises:
        OSError: The address can't be used.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
