"""A port of each process's own: processes that share a listener, and workers, have no other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator

from zaqar_notify.delivery.installation import announced, installation_mark
from zaqar_notify.service import Service

PORTS = 16
"""How many are tried, from `metrics_port` on: the processes of one host share the setting."""

STOP_SECONDS = 1.0
"""How long a scrape under way may hold up the end of the process."""

logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def serving_metrics(service: Service) -> AsyncIterator[int | None]:
    """Serve the probes on `metrics_port` meanwhile; yields the port taken.

    None when the setting is 0 or all ports are taken, which is logged and stops nothing.
    """
    listener = _listen(service.settings.metrics_host, service.settings.metrics_port)
    if listener is None:
        yield None
        return
    # Only processes that have such a port pay for these.
    from zaqar_notify.operations.probes import Probes
    from zaqar_notify.operations.serving import EmbeddedServer

    port = listener.getsockname()[1]
    server = EmbeddedServer(Probes(service), stop_seconds=STOP_SECONDS)
    with contextlib.closing(listener), announced(port, installation_mark(service.settings)):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield port
        finally:
            server.should_exit = True
            await serving


def _listen(host: str, first: int) -> socket.socket | None:
    if not first:
        return None
    from zaqar_notify.operations.serving import bound

    error: OSError | None = None
    for port in range(first, min(first + PORTS, 65536)):
        try:
            listener = bound(host, port)
            listener.listen()
        except OSError as failure:
            error = failure
        else:
            logger.info(
                "Metrics are shown",
                extra={"action": "metrics_served", "host": host, "port": port, "pid": os.getpid()},
            )
            return listener
    logger.warning(
        "Metrics are not shown: no port can be taken",
        extra={"action": "metrics_not_served", "host": host, "port": first, "error": str(error)},
    )
    return None
