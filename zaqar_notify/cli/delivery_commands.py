"""`zaqar-notify delivery …`: the attempts of deliveries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from zaqar_notify.cli import replay_commands
from zaqar_notify.cli.commands import Json, add_group, open_client
from zaqar_notify.cli.output import instant, print_json, print_table, printable, tell
from zaqar_notify.client import Attempt

HEADINGS = ("AT", "QUEUE", "SUBSCRIPTION", "MESSAGE", "TRY", "RESULT", "MS", "STATE", "WHY")

OfQueue = Annotated[str | None, typer.Option("--queue", help="Only of this queue.")]
OfSubscription = Annotated[
    str | None, typer.Option("--subscription", metavar="ID", help="Only of this subscription.")
]
OfMessage = Annotated[
    str | None, typer.Option("--message", metavar="ID", help="Only of this message.")
]
Outcome = Annotated[
    str | None,
    typer.Option(
        help="Only these, separated by commas: delivered, failed, try_later, refused, gone, postponed."
    ),
]


def register(app: typer.Typer) -> None:
    add_group(
        app,
        "delivery",
        "Attempts of deliveries: the failed ones, and all with ZAQAR_DELIVERY_LOG=all.",
        (list_, show, tail, replay_commands.replay),
    )


def list_(
    context: typer.Context,
    queue: OfQueue = None,
    subscription: OfSubscription = None,
    message: OfMessage = None,
    outcome: Outcome = None,
    minutes: Annotated[
        int | None, typer.Option(min=1, help="Only of the last so many minutes.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most attempts to list.")] = 100,
    as_json: Json = False,
) -> None:
    """List attempts, by queue and subscription, and oldest first within one."""
    since = None if minutes is None else datetime.now(UTC) - timedelta(minutes=minutes)
    with open_client(context) as client:
        found = client.deliveries.attempts(
            since=since,
            queue=queue,
            subscription_id=subscription,
            message_id=message,
            outcome=outcome,
        )
        attempts = list(itertools.islice(found, limit))
    if as_json:
        print_json({"attempts": attempts})
        return
    print_table(HEADINGS, [_row(each) for each in attempts])
    if not attempts:
        tell(
            "No attempt is kept that fits. First attempts that succeed are kept only with ZAQAR_DELIVERY_LOG=all"
        )


def show(
    context: typer.Context,
    delivery_id: Annotated[
        str,
        typer.Argument(show_default=False, help="As in the header webhook-id: msg_…"),
    ],
    as_json: Json = False,
) -> None:
    """Show the state of a delivery, and its attempts. `why` says it in words."""
    with open_client(context) as client:
        found = client.deliveries.show(delivery_id)
    if as_json:
        print_json(found)
        return
    then = found.next_attempt_at
    next_at = f", next attempt at {instant(then)}" if then else ""
    print(f"{found.id}: {found.state}{next_at}")
    print_table(HEADINGS, [_row(each) for each in found.attempts])


def tail(
    context: typer.Context,
    queue: OfQueue = None,
    subscription: OfSubscription = None,
    outcome: Outcome = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line.")] = False,
) -> None:
    """Follow the log: print each attempt as it is made, until Ctrl-C."""
    with open_client(context) as client:
        found = client.deliveries.tail(
            since=datetime.now(UTC), queue=queue, subscription_id=subscription, outcome=outcome
        )
        for attempt in found:
            if as_json:
                print_json(attempt)
            else:
                print("  ".join(map(str, _row(attempt))), flush=True)


def _row(attempt: Attempt) -> Sequence[Any]:
    result = attempt.verdict if attempt.status is None else f"{attempt.verdict} {attempt.status}"
    return (
        instant(attempt.at),
        attempt.queue,
        attempt.subscription_id,
        attempt.message_id,
        attempt.attempt,
        result,
        attempt.latency_ms,
        attempt.state,
        printable(attempt.detail) or "-",
    )
