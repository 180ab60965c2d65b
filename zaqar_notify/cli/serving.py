"""Code that `up` and `api` share: an address to listen on, and a server that stops at a signal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, cast

from fastapi import FastAPI

from api.connection import Connection
from api.connection_limits import connection_limits
from api.sockets import Socket
from api.tls import Handshake
from zaqar_notify.delivery.installation import announced
from zaqar_notify.errors import StartRefused
from zaqar_notify.files import raise_file_limit
from zaqar_notify.operations.certificate import RELOAD, Certificate
from zaqar_notify.operations.metrics_port import serving_metrics
from zaqar_notify.operations.serving import EmbeddedServer, bound
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings

COLLECTED_AFTER = (20_000, 20, 10)
"""New objects before a collection of the young ones; such collections before one of the next generation."""

EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Addresses that stand for all of this host, each with the one by which this host reaches itself."""

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies and clients keep an idle connection, so that they close it, not we."""


class Companion(Protocol):
    """A part that runs beside the server and ends with it: the delivery engine."""

    async def run(self) -> None: ...

    async def drain(self, timeout_seconds: float) -> None: ...


class Server(EmbeddedServer):
    """The server of the API: its connections have bounds."""

    def __init__(
        self,
        app: FastAPI,
        service: Service,
        *,
        on_started: Callable[[], None],
        certificate: Certificate | None = None,
    ) -> None:
        """With a certificate, it serves HTTPS only."""
        settings = service.settings
        limits = connection_limits(settings, service.metrics.overloads)
        connection = (
            partial(Connection, limits=limits)
            if certificate is None
            else partial(Handshake, limits=limits, context=certificate.current)
        )
        super().__init__(
            app,
            stop_seconds=settings.shutdown_seconds,
            http=cast(type[asyncio.Protocol], connection),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ws=partial(Socket, limits=limits) if settings.websocket else "none",
            ws_max_size=settings.websocket_max_frame_bytes,
            ws_ping_interval=settings.websocket_ping_seconds,
            ws_ping_timeout=settings.websocket_ping_seconds,
        )
        self.certificate = service.metrics.certificate = certificate
        self.shutdown_seconds = settings.shutdown_seconds
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


async def serve_until_stopped(
    server: Server,
    service: Service,
    listeners: Sequence[socket.socket],
    companion: Companion | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests and deliveries under way.

    Requests and deliveries are drained at the same time, each within `shutdown_seconds`.
    """
    raise_file_limit()
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        server.should_exit = True
        service.health.is_draining = True
        service.storage.stop_waiting()

    def stop_or_hurry() -> None:
        """A second signal means "at once"."""
        server.force_exit = stopping.is_set()
        stop()

    _on_signals(stop_or_hurry)
    if server.certificate is not None:
        asyncio.get_running_loop().add_signal_handler(RELOAD, server.certificate.reload)
        # The files may have changed before this process listened to the signal.
        server.certificate.reload()
    _collect_rarely()
    async with serving_metrics(service):
        serving = asyncio.create_task(server.serve(sockets=list(listeners)))
        serving.add_done_callback(lambda _: stop())
        if companion is None:
            await serving
            return
        running = asyncio.create_task(companion.run())
        running.add_done_callback(lambda _: stop())
        await stopping.wait()
        await asyncio.gather(serving, companion.drain(server.shutdown_seconds))
        await running


def _collect_rarely() -> None:
    """Make garbage collections rare: each one halts all requests, and finds next to nothing.

    Requests and connections leave no cycles. With 5,000 long polls a full collection looks at 640,000
    objects; by Python's own thresholds there was one every few seconds.
    """
    # Objects of the start live until the end, so no collection need look at them again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A process of several ignores SIGINT: its parent tells it when to stop.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address. It does not listen yet; the server begins that.

    Raises:
        StartRefused: The address can't be used.
    """
    try:
        return bound(host, port)
    except OSError as error:
        raise StartRefused(
            f"Can't listen on {host} port {port}: {error.strerror or error}; choose another port"
        ) from error


def ports_of(port: int, settings: Settings) -> list[int]:
    """The ports on which a process listens: the API's own, and the one of the WebSocket if it has one.

    Raises:
        StartRefused: They are one and the same.
    """
    if not settings.websocket_port:
        return [port]
    if settings.websocket_port == port:
        raise StartRefused(
            f"ZAQAR_WEBSOCKET_PORT is {port}, the port of the API itself, which serves WebSockets at / and /v2: "
            "choose another port, or leave ZAQAR_WEBSOCKET_PORT out"
        )
    return [port, settings.websocket_port]


@contextlib.contextmanager
def listening(host: str, port: int, settings: Settings) -> Iterator[list[socket.socket]]:
    """Sockets of one process, for each of its ports; they do not listen yet.

    Raises:
        StartRefused: An address can't be used.
    """
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(listen(host, each)))
            for each in ports_of(port, settings)
        ]


@contextlib.contextmanager
def announcing(listeners: Iterable[socket.socket], mark: str) -> Iterator[None]:
    """As `announced`, for each of these sockets."""
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(announced(port_of(listener), mark))
        yield


def listen_for_each(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets for so many processes, all bound to one address (SO_REUSEPORT).

    The kernel spreads new connections over those that listen. Processes that accept from one and
    the same socket do not share evenly: whichever waited last takes nearly all of a burst.

    Raises:
        StartRefused: The address can't be used.
    """
    # Bound without sharing first, because a shared bind does not notice another program's socket.
    with contextlib.closing(listen(host, port)) as probe:
        family, address = probe.family, probe.getsockname()
    listeners = []
    for _ in range(count):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listeners.append(listener)
    return listeners


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def url_of(listener: socket.socket, settings: Settings) -> str:
    return _url(settings, *listener.getsockname()[:2])


def url_to_try(listener: socket.socket, settings: Settings) -> str:
    """The address for commands that a person pastes on this host. A certificate is rarely of an IP
    address, so with one it is the name that clients use, where the settings have it."""
    if settings.tls_cert_file and settings.public_url:
        return settings.public_url
    host, port = listener.getsockname()[:2]
    return _url(settings, EVERY_ADDRESS.get(host, host), port)


def _url(settings: Settings, host: str, port: int) -> str:
    scheme = "https" if settings.tls_cert_file else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
