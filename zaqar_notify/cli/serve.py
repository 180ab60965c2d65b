"""`zaqar-notify up`: API, delivery engine and SQLite store in one process.

The one place that puts all packages together.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from pathlib import Path

import uvloop
from dotenv import dotenv_values
from pydantic import SecretStr

from api.app import create_app
from workers.build import build_engine
from zaqar_notify import logs
from zaqar_notify.cli.serving import Server, listen, port_of, serve_until_stopped, url_of
from zaqar_notify.clock import SteadyClock
from zaqar_notify.errors import StartRefused
from zaqar_notify.installation import announced, installation_mark
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.single import DATABASE, KEY_NAMES, KEYS, allowed_networks
from zaqar_notify.storage.registry import open_storage

logger = logging.getLogger(__name__)


def up(settings: Settings, *, host: str, port: int, data: Path) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way.

    Raises:
        StartRefused: The data directory or the address can't be used.
    """
    settings = _single_process_settings(settings, data)
    logs.configure(settings.log_level, settings.log_format)
    listener = listen(host, port)
    with contextlib.closing(listener), announced(port_of(listener), installation_mark(settings)):
        uvloop.run(_serve(settings, listener, data))


async def _serve(settings: Settings, listener: socket.socket, data: Path) -> None:
    storage = await open_storage(settings.store_uri)
    storage.clock = clock = SteadyClock()
    engine = build_engine(storage, settings, clock)
    service = Service(storage=storage, settings=settings, clock=clock, doorbell=engine)
    service.metrics.engine = engine
    server = Server(
        create_app(service), settings, on_started=lambda: _welcome(listener, settings, data)
    )
    try:
        await serve_until_stopped(server, service, listener, engine)
    finally:
        await storage.close()


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
            "delivery_allow": allowed_networks(settings),
            "signed_url_secrets": signed_url_secrets,
            "webhook_secret": webhook_secret,
        }
    )


def _keys(path: Path) -> dict[str, str]:
    """The keys of this data directory, made at the first start."""
    if not path.exists():
        lines = "".join(f"{name}={secrets.token_hex(32)}\n" for name in KEY_NAMES)
        partial = path.with_suffix(".new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(lines)
        partial.rename(path)
    values = dotenv_values(path, interpolate=False)
    keys = {name: values.get(name) or "" for name in KEY_NAMES}
    if not all(keys.values()):
        raise StartRefused(f"{path} lacks a key; restore it, or remove it to have new keys made")
    return keys


def _welcome(listener: socket.socket, settings: Settings, data: Path) -> None:
    url = url_of(listener)
    allowed = ", ".join(str(network) for network in settings.delivery_allow) or "no address"
    headers = f"-H 'Client-ID: {secrets.token_hex(16)}' -H 'X-Project-ID: demo'"
    print(
        f"""zaqar-notify serves {url} (API: {url}/docs), data in {data.resolve()}

Not for production as it stands: whoever reaches this address is believed to be the project
it names (no authentication), nothing is encrypted on the way, and deliveries may reach
{allowed} beside public addresses.

Try:
  curl -i {url}/v2/queues/hello/messages {headers} \\
       -H 'Content-Type: application/json' -d '{{"messages": [{{"body": "hi"}}]}}'
  curl -i '{url}/v2/queues/hello/messages?echo=true' {headers}
  zaqar-notify --url {url} --project demo tail hello --from-start

Stop with Ctrl-C.""",
        flush=True,
    )
