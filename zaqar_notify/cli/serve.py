"""`zaqar-notify up`: API, delivery engine and SQLite store in one process.

The one place that puts all packages together.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import uvicorn
import uvloop
from dotenv import dotenv_values
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from workers.app import build_engine
from workers.engine import Engine
from zaqar_notify import logs, messages
from zaqar_notify.clock import SystemClock
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Storage
from zaqar_notify.storage.registry import open_storage

DATABASE = "zaqar-notify.db"
KEYS = "keys.env"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies and clients keep an idle connection, so that they close it, not we."""

logger = logging.getLogger(__name__)


def up(settings: Settings, *, host: str, port: int, data: Path) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way.

    Raises:
        StartRefused: The data directory or the address can't be used.
    """
    settings = _single_process_settings(settings, data)
    logs.configure(settings.log_level, settings.log_format)
    listener = _listen(host, port)
    with contextlib.closing(listener):
        uvloop.run(_serve(settings, listener, data))


async def _serve(settings: Settings, listener: socket.socket, data: Path) -> None:
    clock = SystemClock()
    storage = await open_storage(settings.store_uri)

    async def relay(ref: QueueRef, message: NewMessage, *, delivery_id: str, hops: int) -> None:
        await messages.relay(service, ref, message, delivery_id=delivery_id, hops=hops)

    engine = build_engine(storage, settings, clock, relay)
    service = Service(storage=storage, settings=settings, clock=clock, doorbell=engine)
    server = _Server(
        create_app(service), settings, on_started=lambda: _welcome(listener, settings, data)
    )
    try:
        await _run_until_stopped(server, engine, storage, settings, listener)
    finally:
        await storage.close()


async def _run_until_stopped(
    server: _Server, engine: Engine, storage: Storage, settings: Settings, listener: socket.socket
) -> None:
    """Requests and deliveries are drained at the same time, each within `shutdown_seconds`."""
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            server.force_exit = True
        stopping.set()
        server.should_exit = True
        storage.stop_waiting()

    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop)
    # What start-up made lives until the end; collections need not look at it again.
    gc.collect()
    gc.freeze()
    running = asyncio.create_task(engine.run())
    running.add_done_callback(lambda _: stop())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    serving.add_done_callback(lambda _: stop())
    await stopping.wait()
    await asyncio.gather(serving, engine.drain(settings.shutdown_seconds))
    await running


class _Server(uvicorn.Server):
    """Uvicorn, leaving signals to us: it would raise them again after its end."""

    def __init__(self, app: FastAPI, settings: Settings, *, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(settings.shutdown_seconds),
            )
        )
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _single_process_settings(settings: Settings, data: Path) -> Settings:
    """What this shape sets by itself: the store, loopback receivers, and keys of its own."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        keys = _keys(data / KEYS)
    except OSError as error:
        raise StartRefused(
            f"The data directory {data} can't be used: {error.strerror or error}"
        ) from error
    signed_url_secrets = settings.signed_url_secrets or (SecretStr(keys["SIGNED_URL_SECRET"]),)
    webhook_secret = settings.webhook_secret
    if not webhook_secret.get_secret_value():
        webhook_secret = SecretStr(keys["WEBHOOK_SECRET"])
    return settings.model_copy(
        update={
            "store_uri": f"sqlite://{(data / DATABASE).resolve()}",
            "delivery_allow": settings.delivery_allow or LOOPBACK,
            "signed_url_secrets": signed_url_secrets,
            "webhook_secret": webhook_secret,
        }
    )


def _keys(path: Path) -> dict[str, str]:
    """The keys of this data directory, made at the first start."""
    wanted = ("SIGNED_URL_SECRET", "WEBHOOK_SECRET")
    if not path.exists():
        lines = "".join(f"{name}={secrets.token_hex(32)}\n" for name in wanted)
        partial = path.with_suffix(".new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(lines)
        partial.rename(path)
    values = dotenv_values(path, interpolate=False)
    keys = {name: values.get(name) or "" for name in wanted}
    if not all(keys.values()):
        raise StartRefused(f"{path} lacks a key; restore it, or remove it to have new keys made")
    return keys


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise StartRefused(
            f"Can't listen on {host} port {port}: {error.strerror or error}; choose another --port"
        ) from error
    return listener


def _welcome(listener: socket.socket, settings: Settings, data: Path) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    allowed = ", ".join(str(network) for network in settings.delivery_allow)
    headers = f"-H 'Client-ID: {secrets.token_hex(16)}' -H 'X-Project-ID: demo'"
    print(
        f"""zaqar-notify serves {url} (API: {url}/docs), data in {data.resolve()}

Not for production as it stands: whoever reaches this address is believed to be the project
it names (no authentication), nothing is encrypted on the way, and deliveries may reach
{allowed} beside public addresses.

Try:
  curl -i {url}/v2/queues/hello/messages {headers} \\
       --json '{{"messages": [{{"body": "hi"}}]}}'
  curl -i {url}/v2/queues/hello/messages?echo=true {headers}
  zaqar-notify --url {url} tail hello --from-start

Stop with Ctrl-C.""",
        flush=True,
    )
