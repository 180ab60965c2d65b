"""`zaqar-notify claim …`: leases of messages. `zaqar-notify claim QUEUE` makes one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from zaqar_notify.cli.commands import DefaultGroup, Json, Queue, add_group, open_client
from zaqar_notify.cli.output import body_line, print_json, print_table

ClaimId = Annotated[
    str, typer.Argument(show_default=False, help="As `claim create --json` shows it.")
]


def register(app: typer.Typer) -> None:
    add_group(
        app,
        "claim",
        "Claim messages: `claim QUEUE` is short for `claim create QUEUE`.",
        (create, renew, release),
        cls=DefaultGroup,
    )


def create(
    context: typer.Context,
    queue: Queue,
    limit: Annotated[int, typer.Option(min=1, help="The most messages to claim.")] = 10,
    ttl: Annotated[int, typer.Option(help="Length of the lease, seconds.")] = 300,
    grace: Annotated[
        int,
        typer.Option(help="Life past the lease for messages that would expire before, seconds."),
    ] = 60,
    wait: Annotated[
        int, typer.Option(min=0, max=20, help="Seconds to wait for a message when there is none.")
    ] = 0,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the messages once they are printed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Claim messages and print them; without --delete they are free again when the lease ends.

    If no message can be claimed, it says so on standard error; the exit code is still 0.
    """
    with open_client(context) as client:
        claimed = client.claim(queue, ttl=ttl, grace=grace, limit=limit, wait=wait)
        if as_json:
            print_json({"claim_id": claimed.id, "ttl": ttl, "messages": claimed.messages})
        elif claimed:
            rows = [(message.id, message.age, body_line(message)) for message in claimed.messages]
            print_table(["ID", "AGE", "BODY"], rows)
        if not claimed:
            print(f"Nothing to claim on queue {queue!r}", file=sys.stderr)
        # A message that could not be printed must not be deleted.
        sys.stdout.flush()
        for message in claimed.messages if delete else ():
            claimed.delete(message)


def renew(
    context: typer.Context,
    queue: Queue,
    claim_id: ClaimId,
    ttl: Annotated[int, typer.Option(help="Length of the lease from now, seconds.")] = 300,
    grace: Annotated[
        int,
        typer.Option(help="Life past the lease for messages that would expire before, seconds."),
    ] = 60,
) -> None:
    """Let a lease end later. An error if it has ended: another consumer may have the messages."""
    with open_client(context) as client:
        client.claim_of(queue, claim_id).renew(ttl, grace)


def release(context: typer.Context, queue: Queue, claim_id: ClaimId) -> None:
    """Give the messages of a lease back, for other consumers. An error if it has ended."""
    with open_client(context) as client:
        client.claim_of(queue, claim_id).release()
