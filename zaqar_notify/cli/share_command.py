"""`zaqar-notify share revoke`: an end to the pre-signed URLs of a queue."""

from __future__ import annotations

import typer

from zaqar_notify.cli.commands import Queue, add_group, open_client


def register(app: typer.Typer) -> None:
    add_group(app, "share", "Pre-signed URLs of a queue.", (revoke,))


def revoke(context: typer.Context, queue: Queue) -> None:
    """Revoke all pre-signed URLs of the queue that were made so far.

    Each process of the service refuses them within three seconds. Links that confirm a subscription stay valid.
    """
    with open_client(context) as client:
        client.revoke_shares(queue)
