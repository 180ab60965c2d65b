"""`zaqar-notify queue …`: a project's queues."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

import typer

from zaqar_notify.cli import move_command, replay_commands
from zaqar_notify.cli.arguments import read_object
from zaqar_notify.cli.commands import (
    Json,
    Queue,
    Yes,
    add_group,
    confirm,
    open_client,
)
from zaqar_notify.cli.output import print_json, print_table, printable, tell
from zaqar_notify.client import QueueEnd

Resource: TypeAlias = Literal["messages", "subscriptions"]
Metadata = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Such as '{\"_default_message_ttl\": 600}'."),
]


def register(app: typer.Typer) -> None:
    add_group(
        app,
        "queue",
        "Queues of the project.",
        (
            list_,
            create,
            show,
            set_,
            delete,
            purge,
            stats,
            replay_commands.redrive,
            move_command.move,
            move_command.moves_,
        ),
    )


def list_(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Option(help="Only queues whose name contains this text.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the project's queues."""
    with open_client(context) as client:
        names = [queue.name for queue in client.queues(name_contains=name)]
    if as_json:
        print_json({"queues": names})
    else:
        print_table(["QUEUE"], [[name] for name in names])


def create(context: typer.Context, queue: Queue, metadata: Metadata = None) -> None:
    """Create a queue. It also comes into being with its first message or subscription."""
    wanted = read_object("--metadata", metadata) if metadata else {}
    with open_client(context) as client:
        if not client.create_queue(queue, wanted):
            tell(f"Queue {queue!r} was there already, and stays as it is; `queue set` changes it")


def show(context: typer.Context, queue: Queue, as_json: Json = False) -> None:
    """Show a queue's metadata; keys that begin with _ have a meaning, and defaults."""
    with open_client(context) as client:
        metadata = client.queue(queue)
    if as_json:
        print_json(metadata)
    else:
        rows = [(printable(key), printable(json.dumps(value))) for key, value in metadata.items()]
        print_table(["KEY", "VALUE"], rows)


def set_(
    context: typer.Context,
    queue: Queue,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="VALUE is JSON, or else a text.", show_default=False
        ),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Remove this key; may be given several times."),
    ] = None,
) -> None:
    """Set keys of a queue's metadata and remove others, all or none: _default_message_ttl=600 colour=red."""
    changes = dict(_key_and_value(each) for each in values or ())
    if not changes and not unset:
        raise typer.BadParameter("Say what to set, as in _default_message_ttl=600, or --unset KEY")
    with open_client(context) as client:
        client.update_queue(queue, changes, remove=unset or ())


def delete(context: typer.Context, queue: Queue, yes: Yes = False) -> None:
    """Delete a queue with its messages. Its subscriptions stay."""
    confirm(f"Delete queue {queue!r} with its messages?", yes=yes)
    with open_client(context) as client:
        client.delete_queue(queue)


def purge(
    context: typer.Context,
    queue: Queue,
    subscriptions: Annotated[
        bool, typer.Option("--subscriptions", help="Delete its subscriptions, too.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete all messages of a queue. The queue stays."""
    what: list[Resource] = ["messages", "subscriptions"] if subscriptions else ["messages"]
    confirm(f"Delete all {' and '.join(what)} of queue {queue!r}?", yes=yes)
    with open_client(context) as client:
        client.purge(queue, what)


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


def _key_and_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
