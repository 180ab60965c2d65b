"""Commands that listen. They import the server when they run, because that takes a second."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zaqar_notify.settings import load_settings

SETTINGS = "Settings are read from the environment; `zaqar-notify config --help` lists them."


class Pool(StrEnum):
    THREADS = "threads"
    PREFORK = "prefork"


def register(app: typer.Typer) -> None:
    for command in (up, api, worker):
        app.command(epilog=SETTINGS)(command)
    app.command()(receive)


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8888,
    data: Annotated[Path, typer.Option(help="Directory of the data; made when absent.")] = Path(
        "data"
    ),
) -> None:
    """Serve in one process: API, delivery engine and store, until Ctrl-C or SIGTERM.

    The store is a SQLite file in the directory of the data, unless ZAQAR_STORE_URI names another.
    """
    settings = load_settings()

    from zaqar_notify.cli import serve

    serve.up(settings, host=host, port=port, data=data)


def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8888,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Number of processes; about one for each core.")
    ] = 1,
) -> None:
    """Serve the API of a cluster; ZAQAR_STORE_URI and ZAQAR_BROKER_URI name its store and broker."""
    settings = load_settings()

    from zaqar_notify.cli import api_processes

    api_processes.api(settings, host=host, port=port, processes=processes)


def worker(
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that deliver; about one for each core.")
    ] = 1,
    pool: Annotated[
        Pool | None,
        typer.Option(
            help="threads: one process. prefork: a parent with child processes. Default: threads for a concurrency of 1, else prefork."
        ),
    ] = None,
) -> None:
    """Deliver for a cluster; the same as `celery -A workers.app worker`.

    ZAQAR_DELIVERY_CONCURRENCY is the most deliveries under way at once in each process.
    """
    settings = load_settings()

    from zaqar_notify.cli import worker as celery_worker

    if pool is None:
        pool = Pool.THREADS if concurrency == 1 else Pool.PREFORK
    celery_worker.worker(settings, concurrency=concurrency, pool=pool)


def receive(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 9999,
    secret: Annotated[
        str,
        typer.Option(
            envvar="ZAQAR_RECEIVE_SECRET", help="whsec_… or whpk_…: check signatures with it."
        ),
    ] = "",
    status: Annotated[int, typer.Option(min=200, max=599, help="Status of every answer.")] = 204,
    count: Annotated[int, typer.Option(min=0, help="Stop after this many webhooks; 0: never.")] = 0,
) -> None:
    """Receive webhooks and print them, to try things out."""
    from zaqar_notify.cli import receive as receiver

    receiver.receive(host=host, port=port, secret=secret, status=status, count=count)
