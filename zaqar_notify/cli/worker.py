"""`zaqar-notify worker`: starts the Celery application of `workers.app` with its options."""

from __future__ import annotations

import typer

from workers.app import app
from zaqar_notify.cli.welcome import program
from zaqar_notify.operations.cluster import cluster_settings
from zaqar_notify.settings import Settings


def worker(settings: Settings, *, concurrency: int, pool: str) -> None:
    """Deliver until SIGTERM or SIGINT, then give back the jobs in hand.

    Raises:
        StartRefused: A setting is missing, or the store can't be used.
    """
    cluster_settings(settings)
    running = app.Worker(
        pool_cls=pool,
        concurrency=concurrency,
        loglevel=settings.log_level.upper(),
        quiet=True,
        # Workers know each other by their leases in the store.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    print(
        f"zaqar-notify delivers from now on. Check it, in the same environment, with: {program()} doctor",
        flush=True,
    )
    running.start()
    raise typer.Exit(running.exitcode or 0)
