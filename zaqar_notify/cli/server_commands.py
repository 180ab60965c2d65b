"""Commands that listen. What they put together is imported when they run: it takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zaqar_notify.settings import load_settings


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(receive)


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8888,
    data: Annotated[Path, typer.Option(help="Directory of the data; made when absent.")] = Path(
        "data"
    ),
) -> None:
    """Serve in one process: API, delivery engine and SQLite store, until Ctrl-C or SIGTERM."""
    settings = load_settings()

    from zaqar_notify.cli import serve

    serve.up(settings, host=host, port=port, data=data)


def receive(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 9999,
    secret: Annotated[
        str, typer.Option(envvar="ZAQAR_RECEIVE_SECRET", help="whsec_…: check signatures with it.")
    ] = "",
    status: Annotated[int, typer.Option(min=200, max=599, help="What to answer.")] = 204,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many; 0: never.")] = 0,
) -> None:
    """Receive webhooks and print them, to try things out."""
    from zaqar_notify.cli import receive as receiver

    receiver.receive(host=host, port=port, secret=secret, status=status, count=count)
