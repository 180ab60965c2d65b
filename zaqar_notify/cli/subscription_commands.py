"""`zaqar-notify subscription …`: a queue's subscriptions. `zaqar-notify subscribe` makes one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from zaqar_notify.cli.arguments import read_object, read_options
from zaqar_notify.cli.commands import (
    Json,
    Queue,
    SubscriptionId,
    add_group,
    open_client,
)
from zaqar_notify.cli.output import instant, print_json, print_table, printable, until
from zaqar_notify.client import RawJson, Subscription

HEADINGS = ("ID", "SUBSCRIBER", "CONFIRMED", "STATE", "UNTIL")


def register(app: typer.Typer) -> None:
    add_group(
        app,
        "subscription",
        "Subscriptions of a queue.",
        (list_, show, update, pause, resume, test_, delete, secret),
    )
    app.command()(undelivered)


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
        (
            each.id,
            printable(each.subscriber),
            "yes" if each.confirmed else "no",
            state(each),
            until(each),
        )
        for each in found
    ]
    print_table(HEADINGS, rows)


def show(
    context: typer.Context, queue: Queue, subscription_id: SubscriptionId, as_json: Json = False
) -> None:
    """Show a subscription with its options, and the number of deliveries that it holds back."""
    with open_client(context) as client:
        found = client.subscription(queue, subscription_id)
    if as_json:
        print_json(found)
        return
    rows = [
        ("id", found.id),
        ("subscriber", printable(found.subscriber)),
        ("confirmed", "yes" if found.confirmed else "no"),
        ("state", state(found)),
        ("until", until(found)),
        ("options", printable(json.dumps(found.options))),
    ]
    if found.disabled is not None:
        rows += [
            ("since", instant(found.disabled.since)),
            ("why", printable(found.disabled.detail) or "-"),
            ("waiting", str(found.disabled.waiting or 0)),
        ]
    print_table(["FIELD", "VALUE"], rows)


def update(
    context: typer.Context,
    queue: Queue,
    subscription_id: SubscriptionId,
    subscriber: Annotated[
        str | None,
        typer.Option(metavar="URI", help="The new receiver; it has confirmed nothing yet."),
    ] = None,
    ttl: Annotated[int | None, typer.Option(help="New life from now, seconds.")] = None,
    options: Annotated[
        str | None, typer.Option(metavar="JSON", help="All options, new: those left out go.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=JSON", help="One option, new; the others stay. May be given several times."
        ),
    ] = None,
) -> None:
    """Change a subscription. One that its failures disabled is enabled by it; a paused one stays paused."""
    if subscriber is None and ttl is None and options is None and not option:
        raise typer.BadParameter("Say what to change: --subscriber, --ttl, --options or --option")
    wanted = None if options is None else read_object("--options", options)
    single = read_options(option or ())
    with open_client(context) as client:
        if single:
            kept = client.subscription(queue, subscription_id).options if wanted is None else wanted
            wanted = kept | single
        client.change_subscription(
            queue, subscription_id, subscriber=subscriber, ttl=ttl, options=wanted
        )


def pause(
    context: typer.Context,
    queue: Queue,
    subscription_id: SubscriptionId,
    why: Annotated[str, typer.Option(help="Shown with the subscription.")] = "",
) -> None:
    """Hold all deliveries to a subscription until `subscription resume`. None is lost."""
    with open_client(context) as client:
        client.pause(queue, subscription_id, why=why)


def resume(context: typer.Context, queue: Queue, subscription_id: SubscriptionId) -> None:
    """Deliver what was held, the oldest first, and all that comes after it."""
    with open_client(context) as client:
        client.resume(queue, subscription_id)


def test_(
    context: typer.Context,
    queue: Queue,
    subscription_id: SubscriptionId,
    body: Annotated[
        str | None,
        typer.Argument(
            show_default=False, help="The message, as JSON; '{\"test\": true}' by default."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a message to this subscription alone, past its filter; it is on no queue."""
    try:
        raw = None if body is None else RawJson(body)
    except ValueError as error:
        raise typer.BadParameter(f"BODY is not JSON: {error}") from error
    with open_client(context) as client:
        tested = client.test_subscription(queue, subscription_id, raw)
    if as_json:
        print_json(tested)
    else:
        print_table(["MESSAGE", "DELIVERY"], [(tested.message_id, tested.delivery_id)])


def secret(
    context: typer.Context,
    queue: Queue,
    subscription_id: SubscriptionId,
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate", help="Make a new one; the former one signs beside it for a while."
        ),
    ] = False,
    overlap: Annotated[
        int | None,
        typer.Option(min=0, help="With --rotate: for so long the former one signs, seconds."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Print the public key of ed25519 signatures.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the secret that signs a subscription's webhooks, or the public key that verifies them."""
    if overlap is not None and not rotate:
        raise typer.BadParameter("--overlap is for --rotate alone: nothing was changed")
    with open_client(context) as client:
        found = ""
        if rotate:
            found = client.rotate_secret(queue, subscription_id, overlap_seconds=overlap)
        if public:
            found = client.public_key(queue, subscription_id)
        found = found or client.signing_secret(queue, subscription_id)
    if as_json:
        print_json({"public_key" if public else "secret": found})
    else:
        print(found)


def undelivered(
    context: typer.Context, queue: Queue, subscription_id: SubscriptionId, as_json: Json = False
) -> None:
    """List the deliveries to a subscription that were given up in the last 14 days, with the reasons."""
    with open_client(context) as client:
        found = list(client.undelivered(queue, subscription_id))
    if as_json:
        print_json({"undelivered": found})
        return
    rows = [
        (each.message_id, instant(each.given_up_at), each.attempts, printable(each.detail))
        for each in found
    ]
    print_table(["MESSAGE", "GIVEN UP", "ATTEMPTS", "WHY"], rows)


def delete(
    context: typer.Context,
    queue: Queue,
    subscription_id: SubscriptionId,
) -> None:
    """Delete a subscription, with its undelivered messages. No error if there is none."""
    with open_client(context) as client:
        client.unsubscribe(queue, subscription_id)


def state(subscription: Subscription) -> str:
    """Why deliveries are held, in a word, or that they are made."""
    return "active" if subscription.disabled is None else subscription.disabled.reason
