"""`zaqar-notify message …`: single messages."""

from __future__ import annotations

from typing import Annotated

import typer

from zaqar_notify.cli.commands import Json, MessageId, Queue, add_group, open_client
from zaqar_notify.cli.output import body_line, print_json, print_table


def register(app: typer.Typer) -> None:
    add_group(app, "message", "Single messages of a queue.", (get, delete))


def get(context: typer.Context, queue: Queue, message_id: MessageId, as_json: Json = False) -> None:
    """Print a message, claimed or not. It is neither claimed nor deleted."""
    with open_client(context) as client:
        message = client.message(queue, message_id)
    if as_json:
        print_json(message)
    else:
        row = (message.id, message.age, message.ttl, body_line(message))
        print_table(["ID", "AGE", "TTL", "BODY"], [row])


def delete(
    context: typer.Context,
    queue: Queue,
    message_ids: Annotated[
        list[str], typer.Argument(show_default=False, help="Ids of the messages.")
    ],
    claim: Annotated[
        str | None, typer.Option(metavar="ID", help="The claim that holds the messages.")
    ] = None,
) -> None:
    """Delete messages; one that was posted for later is cancelled by it. No error for those that are gone.

    A message that a consumer has claimed is deleted only with --claim.
    """
    with open_client(context) as client:
        for message_id in message_ids:
            client.delete(queue, message_id, claim_id=claim)
