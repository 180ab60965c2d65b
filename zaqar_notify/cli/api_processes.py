"""`zaqar-notify api`: API processes of a cluster. They keep nothing: store and broker are elsewhere.

Each process accepts from a socket of its own on the common address. The parent opened the sockets
and keeps them open: connections that come while a process is being started again wait for it.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import uvloop

from api.app import create_app
from api.doorbell import BrokerDoorbell
from sinks.registry import load_kinds
from zaqar_notify.auth import Policy, following, load_policy
from zaqar_notify.auth.keystone import asked_keystone, delegations_of
from zaqar_notify.cli.serving import (
    Server,
    announcing,
    listen_for_each,
    listening,
    ports_of,
    serve_until_stopped,
    url_of,
    url_to_try,
)
from zaqar_notify.cli.supervisor import Supervisor, tell_ready
from zaqar_notify.cli.welcome import client, needs_token_of, some_token
from zaqar_notify.delivery.installation import installation_mark
from zaqar_notify.operations import logs
from zaqar_notify.operations.believing import with_authentication
from zaqar_notify.operations.broker import celery_application
from zaqar_notify.operations.certificate import Certificate, certificate_of
from zaqar_notify.operations.cluster import (
    cluster_settings,
    refuse_several_processes,
    warn_of_unsigned_webhooks,
)
from zaqar_notify.quotas import Rates
from zaqar_notify.service import Service
from zaqar_notify.settings import AUTH_NONE, Settings
from zaqar_notify.storage.clock import store_clock
from zaqar_notify.storage.registry import open_storage_of


def api(settings: Settings, *, host: str, port: int, processes: int) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests under way.

    Raises:
        StartRefused: A setting is missing, or the store, the address or the policy file can't be used.
    """
    cluster_settings(settings)
    if processes > 1:
        refuse_several_processes(settings, "take --processes 1, or a MongoDB replica set")
    logs.configure(settings.log_level, settings.log_format)
    warn_of_unsigned_webhooks(settings)
    certificate = certificate_of(settings)
    mark = installation_mark(settings)
    policy = load_policy(settings)
    if processes > 1:
        ports = ports_of(port, settings)
        each = list(zip(*(listen_for_each(host, one, processes) for one in ports), strict=True))
        settings = with_authentication(settings, each[0])
        # Announced by the parent, for all of its processes.
        with announcing(each[0], mark):
            _serve_in_many(settings, policy, each, certificate)
        return
    with listening(host, port, settings) as listeners:
        settings = with_authentication(settings, listeners)
        on_started = partial(print, _welcome(listeners[0], settings), flush=True)
        with announcing(listeners, mark):
            uvloop.run(
                _serve(settings, policy, listeners, certificate, processes=1, on_started=on_started)
            )


def _serve_in_many(
    settings: Settings,
    policy: Policy,
    each: Sequence[Sequence[socket.socket]],
    certificate: Certificate | None,
) -> None:
    """`each`: the sockets of each process."""
    sentence = _welcome(each[0][0], settings, f" in {len(each)} processes")
    rates = Rates()

    def close_listeners() -> None:
        for listener in chain(*each):
            listener.close()

    def work(place: int) -> None:
        # Another's socket would go on taking connections when that one has closed it.
        for listener in chain(*each[:place], *each[place + 1 :]):
            listener.close()
        uvloop.run(
            _serve(
                settings,
                policy,
                each[place],
                certificate,
                processes=len(each),
                on_started=tell_ready,
                rates=rates,
            )
        )

    # The processes share this memory until one of them writes to it.
    gc.freeze()
    Supervisor(
        work,
        count=len(each),
        stop_seconds=settings.shutdown_seconds,
        on_ready=lambda: print(sentence, flush=True),
        on_stop=close_listeners,
        # A process that is started again begins with what the parent has read.
        on_reload=None if certificate is None else certificate.reload,
    ).run()


def _welcome(listener: socket.socket, settings: Settings, how: str = "") -> str:
    serves = f"zaqar-notify serves {url_of(listener, settings)}{how}."
    check = f"{client(url_to_try(listener, settings), settings.tls_cert_file)} ping"
    if settings.auth == AUTH_NONE:
        return f"{serves} Check it with: {check}"
    return (
        f"{serves} {needs_token_of(settings.auth)}. Check it, in the same environment, with:\n"
        f"  export ZAQAR_TOKEN=$({some_token(settings.auth)})\n  {check}"
    )


async def _serve(
    settings: Settings,
    policy: Policy,
    listeners: Sequence[socket.socket],
    certificate: Certificate | None,
    *,
    processes: int,
    on_started: Callable[[], None],
    rates: Rates | None = None,
) -> None:
    """`rates` are those of all processes, if there are several."""
    kinds = load_kinds(settings)
    storage = await open_storage_of(settings)
    doorbell = BrokerDoorbell(celery_application(lambda: settings), processes=processes)
    try:
        async with store_clock(storage) as clock, asked_keystone(settings) as keystone:
            service = Service(
                storage=storage,
                settings=settings,
                clock=clock,
                doorbell=doorbell,
                kinds=kinds,
                rates=rates or Rates(),
                delegations=delegations_of(keystone, storage, clock),
            )
            service.metrics.broker = doorbell
            app = create_app(service, policy, keystone)
            server = Server(app, service, certificate=certificate, on_started=on_started)
            async with following(policy):
                await serve_until_stopped(server, service, listeners)
    finally:
        doorbell.close()
        await storage.close()
