"""A port of each process's own: processes that share a listener, and workers, have no other."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from zaqar_notify.installation import announced, installation_mark
from zaqar_notify.service import Service

if TYPE_CHECKING:
    from aiohttp import web

PORTS = 16
"""How many are tried, from `metrics_port` on: the processes of one host share the setting."""

STOP_SECONDS = 1.0
"""How long a scrape under way may hold up the end of the process."""

logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def serving_metrics(service: Service) -> AsyncIterator[int | None]:
    """Answer GET /metrics, /healthz and /readyz on `metrics_port` meanwhile; yields the port taken.

    None when the setting is 0 or all ports are taken, which is logged and stops nothing.
    """
    if not service.settings.metrics_port:
        yield None
        return
    # Only processes that have such a port pay for these.
    from aiohttp import web

    from zaqar_notify.exposition import CONTENT_TYPE, exposition

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=await exposition(service), headers={"Content-Type": CONTENT_TYPE})

    async def is_alive(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def is_ready(_request: web.Request) -> web.Response:
        ready = not service.health.is_draining and await service.health.readiness.is_able(
            service.storage
        )
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    app = web.Application()
    app.add_routes(
        [web.get("/metrics", metrics), web.get("/healthz", is_alive), web.get("/readyz", is_ready)]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        port = await _listen(runner, service.settings.metrics_host, service.settings.metrics_port)
        if port is None:
            yield None
            return
        with announced(port, installation_mark(service.settings)):
            yield port
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, first: int) -> int | None:
    from aiohttp import web

    error: OSError | None = None
    for port in range(first, min(first + PORTS, 65536)):
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as failure:
            error = failure
        else:
            logger.info(
                "Metrics are shown",
                extra={"action": "metrics_served", "host": host, "port": port, "pid": os.getpid()},
            )
            return port
    logger.warning(
        "Metrics are not shown: no port can be taken",
        extra={"action": "metrics_not_served", "host": host, "port": first, "error": str(error)},
    )
    return None
