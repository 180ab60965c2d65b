"""`zaqar-notify share …`: pre-signed URLs of a queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated

import typer

from zaqar_notify.cli.commands import Json, Queue, add_group, open_client
from zaqar_notify.cli.output import print_json


class Path(Enum):
    """What of a queue can be shared."""

    MESSAGES = "messages"
    CLAIMS = "claims"
    SUBSCRIPTIONS = "subscriptions"


def register(app: typer.Typer) -> None:
    add_group(app, "share", "Pre-signed URLs of a queue.", (create, revoke))


def create(
    context: typer.Context,
    queue: Queue,
    path: Annotated[
        list[Path] | None,
        typer.Option(help="What may be reached; may be given several times. By default messages."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="What may be done there; may be given several times. By default GET."),
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="How long it lasts, seconds.")] = 86400,
    as_json: Json = False,
) -> None:
    """Give access to a queue to someone without an account: print the headers of their requests.

    Whoever has them has the access. `share revoke` ends it.
    """
    with open_client(context) as client:
        signed = client.share(
            queue,
            paths=[each.value for each in path or (Path.MESSAGES,)],
            methods=method or ("GET",),
            expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
        )
    if as_json:
        print_json(signed)
        return
    for name, value in signed.headers.items():
        print(f"{name}: {value}")


def revoke(context: typer.Context, queue: Queue) -> None:
    """Revoke all pre-signed URLs of the queue that were made so far.

    Each process of the service refuses them within three seconds. Links that confirm a subscription stay valid.
    """
    with open_client(context) as client:
        client.revoke_shares(queue)
