"""`zaqar-notify up`: API and delivery engine in one process, with a SQLite store unless the settings name another.

The one place that puts all packages together.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path

import uvloop

from api.app import create_app
from sinks.registry import load_kinds
from workers.build import build_engine
from workers.doorbell import LocalDoorbell
from zaqar_notify.auth import Policy, following, load_policy
from zaqar_notify.auth.keystone import asked_keystone, delegations_of
from zaqar_notify.auth.tokens import AskedToken, create
from zaqar_notify.cli.admin_commands import COMMANDS
from zaqar_notify.cli.serving import (
    Server,
    announcing,
    listening,
    serve_until_stopped,
    url_of,
    url_to_try,
)
from zaqar_notify.cli.welcome import (
    mail_is_off,
    make_token,
    needs_token_of,
    some_token,
    things_to_try,
)
from zaqar_notify.delivery.installation import installation_mark
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations import logs
from zaqar_notify.operations.admin import Site, serving_commands
from zaqar_notify.operations.believing import is_loopback, with_authentication
from zaqar_notify.operations.certificate import Certificate, certificate_of
from zaqar_notify.operations.cluster import refuse_large_posts
from zaqar_notify.operations.single import (
    DATABASE,
    KEYS,
    own_store,
    single_process,
    with_keys,
)
from zaqar_notify.service import Service
from zaqar_notify.settings import AUTH_NONE, Settings, shown
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage_of

logger = logging.getLogger(__name__)


def up(settings: Settings, *, host: str, port: int, data: Path) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests and deliveries under way.

    Raises:
        StartRefused: The data directory, the address or the policy file can't be used.
    """
    had_keys = (data / KEYS).exists()
    settings = single_process(_with_keys(settings, data), data)
    refuse_large_posts(settings)
    certificate = certificate_of(settings)
    logs.configure(settings.log_level, settings.log_format)
    if had_keys and settings.store_uri == own_store(data) and not (data / DATABASE).exists():
        logger.warning(
            "There are keys and no database, and the settings name no store: a new, empty database is made",
            extra={"action": "database_made", "path": str(data / DATABASE)},
        )
    policy = load_policy(settings)
    with listening(host, port, settings) as listeners:
        settings = with_authentication(settings, listeners)
        with announcing(listeners, installation_mark(settings)):
            uvloop.run(_serve(settings, policy, listeners, data, certificate))


async def _serve(
    settings: Settings,
    policy: Policy,
    listeners: Sequence[socket.socket],
    data: Path,
    certificate: Certificate | None,
) -> None:
    kinds = load_kinds(settings)
    storage = await open_storage_of(settings)
    try:
        async with asked_keystone(settings) as keystone:
            doorbell, clock = LocalDoorbell(), storage.clock
            delegations = delegations_of(keystone, storage, clock)
            service = Service(storage, settings, clock, doorbell, kinds, delegations)
            engine = build_engine(service, doorbell)
            first_token = await _first_token(storage, settings, listeners[0])
            server = Server(
                create_app(service, policy, keystone),
                service,
                certificate=certificate,
                on_started=lambda: _welcome(listeners[0], settings, data, first_token),
            )
            site = Site(storage, settings, clock)
            async with serving_commands(site, COMMANDS, data), following(policy):
                await serve_until_stopped(server, service, listeners, engine)
    finally:
        await storage.close()


def _with_keys(settings: Settings, data: Path) -> Settings:
    """The settings with the keys of the data directory, which is made when absent."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        return with_keys(settings, data)
    except OSError as error:
        raise StartRefused(
            f"The data directory {data} can't be used: {error.strerror or error}"
        ) from error


async def _first_token(storage: Storage, settings: Settings, listener: socket.socket) -> str | None:
    """The secret of an operator's token, made if others can reach the service and it has no token yet."""
    if "token" not in settings.auth or is_loopback(listener):
        return None
    if await storage.control.tokens.list(None, marker=None, limit=1):
        return None
    asked = AskedToken(None, "operator", name="first start")
    return (await create(storage, asked, now=storage.clock.now())).secret


def _welcome(
    listener: socket.socket, settings: Settings, data: Path, first_token: str | None
) -> None:
    url = url_of(listener, settings)
    allowed = ", ".join(str(network) for network in settings.delivery_allow) or "no address"
    needs_token = settings.auth != AUTH_NONE
    place = f"data in {data.resolve()}"
    if settings.store_uri != own_store(data):
        place = f"data in {shown(settings.store_uri)}, keys in {data.resolve()}"
    lines = [f"zaqar-notify serves {url} (API: {url}/docs), {place}", ""]
    if needs_token:
        lines.append(f"{needs_token_of(settings.auth)}.")
    else:
        lines.append("Everybody who reaches this address is believed to be any project.")
    readable = "" if settings.tls_cert_file else "no connection is encrypted, and "
    lines.append(
        f"Not for production as it is: {readable}deliveries may reach {allowed}\n"
        "beside public addresses."
    )
    lines += mail_is_off(settings)
    if first_token is not None:
        lines += [
            "",
            "This operator's token reaches every project. It is shown only now. To make others:",
            f"  {make_token(data)}",
            f"  {make_token(data)} --scope operator",
        ]
    lines += ["", "Try:"]
    if needs_token:
        command = some_token(settings.auth, data)
        lines.append(f"  export ZAQAR_TOKEN={first_token or f'$({command})'}")
    here = url_to_try(listener, settings)
    lines.append(
        f"{things_to_try(here, settings.tls_cert_file, needs_token=needs_token)}\n\nStop with Ctrl-C."
    )
    print("\n".join(lines), flush=True)
