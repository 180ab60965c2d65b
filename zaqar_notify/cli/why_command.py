"""`zaqar-notify why`: why something has not arrived."""

from __future__ import annotations

from typing import Annotated

import typer

from zaqar_notify.cli.commands import Json, open_client
from zaqar_notify.cli.explaining import why_delivery, why_subscription
from zaqar_notify.cli.output import print_json, tell
from zaqar_notify.client import (
    Client,
    ClientError,
    Forbidden,
    NotFound,
    Subscription,
    Suppression,
)

DELIVERY_PREFIX = "msg_"


def register(app: typer.Typer) -> None:
    app.command()(why)


def why(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="SUBSCRIPTION|DELIVERY",
            show_default=False,
            help="Id of a subscription, or of a delivery (msg_…, the header webhook-id).",
        ),
    ],
    queue: Annotated[
        str | None,
        typer.Option("--queue", help="Queue of the subscription; without it, all are searched."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why something has not arrived, and what to do about it."""
    with open_client(context) as client:
        sentences = (
            _of_delivery(client, what, queue)
            if what.startswith(DELIVERY_PREFIX)
            else _of_subscription(client, what, queue or _queue_of(client, what))
        )
    if as_json:
        print_json({"id": what, "why": sentences})
        return
    for sentence in sentences:
        print(sentence)


def _of_subscription(client: Client, subscription_id: str, queue: str) -> list[str]:
    found = client.subscription(queue, subscription_id)
    stats = client.deliveries.stats(queue, subscription_id)
    return list(why_subscription(queue, found, stats, suppression=_suppression_of(client, found)))


def _suppression_of(client: Client, found: Subscription) -> Suppression | None:
    """The suppression of a subscriber who is a person; None as well if the caller may not read it."""
    if not found.subscriber.lower().startswith("mailto:"):
        return None
    try:
        return next(client.suppressions(found.subscriber), None)
    except Forbidden:
        return None


def _of_delivery(client: Client, delivery_id: str, queue: str | None) -> list[str]:
    try:
        return list(why_delivery(client.deliveries.show(delivery_id, queue=queue)))
    except NotFound as error:
        raise ClientError(
            f"No attempt of {delivery_id} is known. It arrived with its first attempt (only "
            "ZAQAR_DELIVERY_LOG=all keeps those), was not tried yet, or is older than the log. "
            "`zaqar-notify why SUBSCRIPTION` tells how its subscription does"
        ) from error


def _queue_of(client: Client, subscription_id: str) -> str:
    """The queue that has the subscription.

    Raises:
        ClientError: None of the project has it.
    """
    tell("Searching all queues of the project; --queue NAME is quicker")
    for queue in client.queues():
        try:
            client.subscription(queue.name, subscription_id)
        except NotFound:
            continue
        return queue.name
    raise ClientError(
        f"No queue of the project has a subscription {subscription_id}: it was deleted, or has expired"
    )
