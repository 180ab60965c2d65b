"""`zaqar-notify api`: API processes of a cluster. They keep nothing: store and broker are elsewhere.

All processes of a host accept from one socket, which the parent opened. A connection goes to
whichever process is free to take it, so one that is paused or being started again holds up nobody;
with a socket for each (SO_REUSEPORT) the kernel would go on handing it its share.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from collections.abc import Callable

import uvloop

from api.app import create_app
from api.doorbell import BrokerDoorbell
from zaqar_notify import logs
from zaqar_notify.broker import celery_application
from zaqar_notify.cli.serving import Server, listen, serve_until_stopped, url_of
from zaqar_notify.cli.supervisor import Supervisor, tell_ready
from zaqar_notify.cluster import cluster_settings, is_sqlite, warn_of_unsigned_webhooks
from zaqar_notify.errors import StartRefused
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.clock import store_clock
from zaqar_notify.storage.registry import open_storage


def api(settings: Settings, *, host: str, port: int, processes: int) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests under way.

    Raises:
        StartRefused: A setting is missing, or the store or the address can't be used.
    """
    cluster_settings(settings)
    if is_sqlite(settings) and processes > 1:
        raise StartRefused(
            f"ZAQAR_STORE_URI names a SQLite file, which one process can use, not {processes}: "
            "take --processes 1, or a MongoDB replica set"
        )
    logs.configure(settings.log_level, settings.log_format)
    warn_of_unsigned_webhooks(settings)
    with contextlib.closing(listen(host, port)) as listener:
        sentence = f"zaqar-notify serves {url_of(listener)}, {_count(processes)}"

        def announce() -> None:
            print(sentence, flush=True)

        if processes == 1:
            uvloop.run(_serve(settings, listener, on_started=announce))
            return
        # Shared by the processes for as long as nobody writes to it.
        gc.freeze()
        Supervisor(
            lambda: uvloop.run(_serve(settings, listener, on_started=tell_ready)),
            count=processes,
            stop_seconds=settings.shutdown_seconds,
            on_ready=announce,
            on_stop=listener.close,
        ).run()


async def _serve(
    settings: Settings, listener: socket.socket, *, on_started: Callable[[], None]
) -> None:
    storage = await open_storage(settings.store_uri)
    doorbell = BrokerDoorbell(celery_application(lambda: settings))
    try:
        async with store_clock(storage) as clock:
            service = Service(storage=storage, settings=settings, clock=clock, doorbell=doorbell)
            service.metrics.broker = doorbell
            server = Server(create_app(service), settings, on_started=on_started)
            await serve_until_stopped(server, service, listener)
    finally:
        doorbell.close()
        await storage.close()


def _count(processes: int) -> str:
    return f"in {processes} processes" if processes > 1 else f"in one process ({os.getpid()})"
