"""Commands that call a running service."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from zaqar_notify.cli.commands import Json, Queue, open_client
from zaqar_notify.cli.output import body_line, instant, print_json, print_table, until
from zaqar_notify.client import NEVER_SECONDS, Attribute, Client, Message, NotFound, RawJson
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.filter_policy import FILTER_KEY, SCOPE_KEY
from zaqar_notify.rules.instants import parse_instant

POST_MESSAGES = 100
POST_BYTES = 131072
"""Lines are posted in groups of at most this many and this size: half of the service's limits."""


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
            "May be given several times.",
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
    bodies = _read_bodies(content, is_text=text, by_line=lines)
    due_at = None if not_before is None else _instant(not_before)
    attributes = dict(map(_attribute, attribute or ()))
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
    as_json: Json = False,
) -> None:
    """Send each later message of a queue to a webhook, mailbox or queue.

    Prints the subscription's id, until when it lives and, for a webhook, the secret that its signatures
    are made with.
    """
    options: dict[str, object] = {}
    if header:
        options["post_headers"] = dict(_name_and_value("--header", each) for each in header)
    if filter_ is not None:
        options[FILTER_KEY] = _json("--filter", filter_)
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


def in_groups(bodies: Sequence[RawJson]) -> Iterator[list[RawJson]]:
    """Split into posts of at most `POST_MESSAGES` messages and, if possible, `POST_BYTES` bytes."""
    group: list[RawJson] = []
    group_bytes = 0
    for body in bodies:
        body_bytes = len(body.text.encode())
        if group and (len(group) == POST_MESSAGES or group_bytes + body_bytes > POST_BYTES):
            yield group
            group, group_bytes = [], 0
        group.append(body)
        group_bytes += body_bytes
    if group:
        yield group


def _read_bodies(content: str, *, is_text: bool, by_line: bool) -> list[RawJson]:
    """The messages in the given texts.

    Raises:
        BadParameter: One is not JSON; the text names its line and the remedy.
    """
    if not by_line:
        return [_body(content.removesuffix("\n") if is_text else content, is_text, "BODY")]
    return [
        _body(line, is_text, f"line {number}")
        for number, line in enumerate(content.split("\n"), start=1)
        if line.strip()
    ]


def _body(content: str, is_text: bool, where: str) -> RawJson:
    if is_text:
        return RawJson(json.dumps(content))
    try:
        content.encode()  # Bytes of an argument that are no UTF-8 arrive as halves of characters.
        return RawJson(content)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f"{where} is not JSON ({error}); --text posts it as plain text, --lines each line as a message"
        ) from error


def _instant(text: str) -> datetime:
    try:
        return parse_instant("--not-before", text)
    except ValidationFailed as error:
        raise typer.BadParameter(str(error)) from error


def _name_and_value(option: str, given: str) -> tuple[str, str]:
    name, separator, value = given.partition("=")
    if not (name and separator):
        raise typer.BadParameter(f"{option} {given!r} is not NAME=VALUE")
    return name, value


def _attribute(given: str) -> tuple[str, Attribute]:
    name, value = _name_and_value("--attribute", given)
    name, _, kind = name.partition(":")
    if kind == "String.Array":
        return name, Attribute(kind, _json("--attribute", value))
    return name, Attribute(kind or "String", value)


def _json(option: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{option} {text!r} is not JSON: {error}") from error


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
