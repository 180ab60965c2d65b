"""`zaqar-notify queue …`: a project's queues."""

from __future__ import annotations

import typer

from zaqar_notify.cli import move_command
from zaqar_notify.cli.commands import Json, Queue, add_group, open_client
from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.client import QueueEnd


def register(app: typer.Typer) -> None:
    add_group(
        app,
        "queue",
        "Queues of the project.",
        (list_, stats, move_command.move, move_command.moves_),
    )


def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the project's queues."""
    with open_client(context) as client:
        names = [queue.name for queue in client.queues()]
    if as_json:
        print_json({"queues": names})
    else:
        print_table(["QUEUE"], [[name] for name in names])


def stats(context: typer.Context, queue: Queue, as_json: Json = False) -> None:
    """Count the messages of a queue."""
    with open_client(context) as client:
        counted = client.stats(queue)
    if as_json:
        print_json(counted)
        return
    print_table(
        ["FREE", "CLAIMED", "TOTAL", "OLDEST", "NEWEST"],
        [
            (
                counted.free,
                counted.claimed,
                counted.total,
                _age(counted.oldest),
                _age(counted.newest),
            )
        ],
    )


def _age(end: QueueEnd | None) -> str:
    return f"{end.age} s ago" if end else "-"
