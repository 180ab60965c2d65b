"""Commands that call a running service."""

from __future__ import annotations

import itertools
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from zaqar_notify.cli.arguments import (
    in_groups,
    name_and_value,
    read_attribute,
    read_bodies,
    read_instant,
    read_json,
    read_options,
)
from zaqar_notify.cli.commands import Json, Options, Queue, open_client
from zaqar_notify.cli.output import body_line, instant, print_json, print_table, until
from zaqar_notify.client import NEVER_SECONDS, Client, Message, NotFound
from zaqar_notify.rules.filter_policy import FILTER_KEY, SCOPE_KEY


def register(app: typer.Typer) -> None:
    for command in (post, tail, subscribe, ping):
        app.command()(command)


def post(
    context: typer.Context,
    queue: Queue,
    body: Annotated[
        str,
        typer.Argument(help="The message, as JSON; - is standard input."),
    ] = "-",
    text: Annotated[
        bool, typer.Option("--text", help="The message is plain text: post it as a JSON string.")
    ] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line that is not blank is one message.")
    ] = False,
    ttl: Annotated[int | None, typer.Option(help="Life of the message, seconds.")] = None,
    delay: Annotated[int | None, typer.Option(help="Seconds until it is visible.")] = None,
    not_before: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANT",
            help="When it becomes visible, such as 2027-01-31T08:00:00Z; its ttl counts from then.",
        ),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Of each message; NAME:TYPE=VALUE for Number, String.Array (as JSON) and Binary (base64). "
            "Without TYPE it is a String. May be given several times.",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Idempotency key: a second post with it stores nothing.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Post a message, or one for each line; print the ids.

    Lines are checked before any is posted, and then posted in groups of at most 100.
    """
    content = sys.stdin.read() if body == "-" else body
    bodies = read_bodies(content, is_text=text, by_line=lines)
    due_at = None if not_before is None else read_instant(not_before)
    attributes = dict(map(read_attribute, attribute or ()))
    ids: list[str] = []
    with open_client(context) as client:
        for number, group in enumerate(in_groups(bodies)):
            # The same input makes the same groups: a repeated command repeats their keys.
            key = f"{idempotency_key}-{number}" if idempotency_key and number else idempotency_key
            ids += client.post(
                queue,
                *group,
                ttl=ttl,
                delay=delay,
                not_before=due_at,
                attributes=attributes,
                idempotency_key=key,
            )
    if as_json:
        print_json({"ids": ids})
    else:
        print_table(["ID"], [[message_id] for message_id in ids])


def tail(
    context: typer.Context,
    queue: Queue,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin with the oldest message of the queue.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many messages.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line.")] = False,
) -> None:
    """Follow a queue: print each message as it is posted, until Ctrl-C.

    Nothing is claimed or deleted. Claimed and delayed messages are shown too.
    """
    with open_client(context) as client:
        for message in itertools.islice(client.tail(queue, from_start=from_start), count):
            if as_json:
                print_json(message)
            else:
                print(f"{_posted_at(message)}  {message.id}  {body_line(message)}", flush=True)


def subscribe(
    context: typer.Context,
    queue: Queue,
    uri: Annotated[
        str,
        typer.Argument(help="Such as https://…, mailto:ADDRESS or queue:NAME.", show_default=False),
    ],
    ttl: Annotated[
        int | None,
        typer.Option(help="Life of the subscription, seconds; without it, it does not expire."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Sent to the webhook; may be given several times."),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Subject of the mails, for mailto:")] = None,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="JSON", help='Filter policy: \'{"colour": ["red", "blue"]}\'.'
        ),
    ] = None,
    on_body: Annotated[
        bool,
        typer.Option("--filter-body", help="The filter's names are keys of the message's body."),
    ] = False,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Send each later message of a queue to a webhook, mailbox or queue.

    Prints the subscription's id, until when it lives and, for a webhook, the secret that its signatures
    are made with.
    """
    options: dict[str, object] = dict(read_options(option or ()))
    if header:
        options["post_headers"] = dict(name_and_value("--header", each) for each in header)
    if filter_ is not None:
        options[FILTER_KEY] = read_json("--filter", filter_)
        options[SCOPE_KEY] = "MessageBody" if on_body else "MessageAttributes"
    if subject is not None:
        options["subject"] = subject
    with open_client(context) as client:
        subscription_id = client.subscribe(queue, uri, ttl=ttl or NEVER_SECONDS, options=options)
        secret = _webhook_secret(client, queue, uri, subscription_id)
        subscription = client.subscription(queue, subscription_id)
    shown = {"subscription_id": subscription_id, "until": until(subscription)}
    if secret is not None:
        shown["signing_secret"] = secret
    if as_json:
        print_json(shown)
    else:
        print_table([name.upper() for name in shown], [list(shown.values())])


def ping(context: typer.Context, as_json: Json = False) -> None:
    """Ask whether the service and its store answer."""
    with open_client(context, pauses_seconds=()) as client:
        started = time.monotonic()
        client.ping()
        milliseconds = round((time.monotonic() - started) * 1000, 1)
    if as_json:
        print_json({"url": client.url, "milliseconds": milliseconds})
    else:
        print(f"{client.url} answers in {milliseconds} ms")


def _webhook_secret(client: Client, queue: str, uri: str, subscription_id: str) -> str | None:
    if not uri.lower().startswith(("http:", "https:")):
        return None
    try:
        return client.signing_secret(queue, subscription_id)
    except NotFound:
        # A service that speaks the API, but does not sign.
        return None


def _posted_at(message: Message) -> str:
    return instant(datetime.now(UTC) - timedelta(seconds=message.age))
