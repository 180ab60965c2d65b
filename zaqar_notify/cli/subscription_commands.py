"""`zaqar-notify subscription …`: a queue's subscriptions. `zaqar-notify subscribe` makes one."""

from __future__ import annotations

from typing import Annotated

import typer

from zaqar_notify.cli.commands import Json, Queue, add_group, open_client
from zaqar_notify.cli.output import print_json, print_table, printable, until

HEADINGS = ("ID", "SUBSCRIBER", "CONFIRMED", "UNTIL")


def register(app: typer.Typer) -> None:
    add_group(app, "subscription", "Subscriptions of a queue.", (list_, delete))


def list_(context: typer.Context, queue: Queue, as_json: Json = False) -> None:
    """List a queue's subscriptions, with the end of each.

    CONFIRMED matters only to a service that requires confirmation (ZAQAR_REQUIRE_CONFIRMATION); others send
    to all.
    """
    with open_client(context) as client:
        found = list(client.subscriptions(queue))
    if as_json:
        print_json({"subscriptions": found})
        return
    rows = [
        (each.id, printable(each.subscriber), "yes" if each.confirmed else "no", until(each))
        for each in found
    ]
    print_table(HEADINGS, rows)


def delete(
    context: typer.Context,
    queue: Queue,
    subscription_id: Annotated[
        str, typer.Argument(show_default=False, help="As `subscription list` shows it.")
    ],
) -> None:
    """Delete a subscription, with its undelivered messages. No error if there is none."""
    with open_client(context) as client:
        client.unsubscribe(queue, subscription_id)
