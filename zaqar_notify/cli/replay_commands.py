"""`zaqar-notify replay …`, `delivery replay` and `queue redrive`: deliveries made anew, in the background."""

from __future__ import annotations

import sys
import time
from enum import Enum
from typing import Annotated

import typer

from zaqar_notify.cli.arguments import read_moment
from zaqar_notify.cli.commands import (
    REFUSED,
    Json,
    Queue,
    SubscriptionId,
    add_group,
    open_client,
)
from zaqar_notify.cli.output import instant, print_json, print_table, printable, tell
from zaqar_notify.client import Client, Replay

LOOK_SECONDS = 0.5
HEADINGS = ("ID", "KIND", "QUEUE", "STATE", "SEEN", "TOTAL", "MOVED", "LEFT", "ASKED AT", "REASON")

ReplayId = Annotated[str, typer.Argument(show_default=False, help="As `replay list` shows it.")]
PerSecond = Annotated[int | None, typer.Option(min=1, max=1000, help="The pace; 100 by default.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Do not follow it; `replay show` tells how far it is.")
]


class Outcome(Enum):
    """The deliveries that are replayed."""

    UNDELIVERED = "undelivered"
    DELIVERED = "delivered"
    ANY = "any"


def register(app: typer.Typer) -> None:
    add_group(
        app,
        "replay",
        "Replays and redrives: `delivery replay` and `queue redrive` begin them.",
        (list_, show, cancel),
    )


def replay(
    context: typer.Context,
    queue: Queue,
    subscription_id: SubscriptionId,
    outcome: Annotated[
        Outcome,
        typer.Option(
            help="Deliveries that were given up; all messages that are still on the queue; or both."
        ),
    ] = Outcome.UNDELIVERED,
    delivery: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only this one; may be given several times."),
    ] = None,
    message: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only of this message; may be given several times."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Only from this ISO 8601 instant on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Only before this ISO 8601 instant.")
    ] = None,
    per_second: PerSecond = None,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Make deliveries of a subscription anew: by default those that were given up.

    It goes on in the service if this command is interrupted; `replay cancel` ends it.
    """
    with open_client(context) as client:
        begun = client.replay(
            queue,
            subscription_id,
            outcome=outcome.value,
            delivery_ids=delivery or (),
            message_ids=message or (),
            since=read_moment("--since", since),
            until=read_moment("--until", until),
            per_second=per_second,
        )
        _end(begun if no_wait else _followed(client, begun), as_json=as_json)


def redrive(
    context: typer.Context,
    queue: Queue,
    target: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="Send the messages there instead.")
    ] = None,
    per_second: PerSecond = None,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Send the messages of a dead-letter queue back to where they came from.

    It goes on in the service if this command is interrupted; `replay cancel` ends it.
    """
    with open_client(context) as client:
        begun = client.redrive(queue, target=target, per_second=per_second)
        _end(begun if no_wait else _followed(client, begun), as_json=as_json)


def list_(context: typer.Context, as_json: Json = False) -> None:
    """List replays and redrives: those under way, and those that ended in the last week."""
    with open_client(context) as client:
        found = client.replays()
    if as_json:
        print_json({"replays": found})
    else:
        print_table(HEADINGS, [_row(each) for each in found])


def show(context: typer.Context, replay_id: ReplayId, as_json: Json = False) -> None:
    """Show how far a replay or redrive is."""
    with open_client(context) as client:
        _show(client.replay_state(replay_id), as_json=as_json)


def cancel(context: typer.Context, replay_id: ReplayId) -> None:
    """End a replay or redrive within seconds; deliveries that it made due stay due."""
    with open_client(context) as client:
        client.cancel_replay(replay_id)


def _followed(client: Client, found: Replay) -> Replay:
    """The replay once it has ended; a bar shows how far it is."""
    with typer.progressbar(
        length=_length(found), label=found.kind.capitalize(), file=sys.stderr
    ) as bar:
        seen = 0
        while not found.is_over:
            time.sleep(LOOK_SECONDS)
            found = client.replay_state(found.id)
            bar.length = _length(found)
            bar.update(found.seen - seen)
            seen = found.seen
    return found


def _length(found: Replay) -> int:
    return max(found.total or 0, found.seen, 1)


def _end(found: Replay, *, as_json: bool) -> None:
    _show(found, as_json=as_json)
    if found.state in ("cancelled", "failed"):
        tell(f"The {found.kind} was {found.state}" + (f": {found.reason}" if found.reason else ""))
        raise typer.Exit(REFUSED)


def _show(found: Replay, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_table(HEADINGS, [_row(found)])


def _row(found: Replay) -> tuple[object, ...]:
    return (
        found.id,
        found.kind,
        found.queue,
        found.state,
        found.seen,
        "-" if found.total is None else found.total,
        found.moved,
        found.left,
        instant(found.asked_at),
        printable(found.reason) or "-",
    )
