"""`zaqar-notify suppression …`: addresses whose owners unsubscribed from the project's mails."""

from __future__ import annotations

from typing import Annotated

import typer

from zaqar_notify.cli.commands import Json, Yes, add_group, confirm, open_client
from zaqar_notify.cli.output import instant, print_json, print_table

HEADINGS = ("ID", "SUBSCRIBER", "QUEUE", "SUBSCRIPTION", "SINCE")


def register(app: typer.Typer) -> None:
    add_group(
        app,
        "suppression",
        "Addresses whose owners unsubscribed: they get nothing from the project.",
        (list_, delete),
    )


def list_(
    context: typer.Context,
    subscriber: Annotated[
        str | None, typer.Option(help="Only this one, such as mailto:user@example.org.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List them. The service keeps the domain of an address, and a digest."""
    with open_client(context) as client:
        found = list(client.suppressions(subscriber))
    if as_json:
        print_json(found)
        return
    print_table(
        HEADINGS,
        [
            (one.id, one.subscriber, one.source, one.subscription_id, instant(one.suppressed_at))
            for one in found
        ],
    )


def delete(
    context: typer.Context,
    suppression_id: Annotated[
        str, typer.Argument(show_default=False, help="As `suppression list` shows it.")
    ],
    yes: Yes = False,
) -> None:
    """Let the address get mails again."""
    confirm("Its owner unsubscribed. Has it asked for mails again?", yes=yes)
    with open_client(context) as client:
        client.remove_suppression(suppression_id)
