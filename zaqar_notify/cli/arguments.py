"""Arguments of the client's commands as values: bodies of messages, attributes, instants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

import typer

from zaqar_notify.client import Attribute, RawJson
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.instants import parse_instant

POST_MESSAGES = 100
POST_BYTES = 131072
"""Lines are posted in groups of at most this many and this size: half of the service's limits."""


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


def read_bodies(content: str, *, is_text: bool, by_line: bool) -> list[RawJson]:
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


def read_moment(option: str, text: str | None) -> datetime | None:
    return None if text is None else read_instant(text, option)


def read_instant(text: str, option: str = "--not-before") -> datetime:
    try:
        return parse_instant(option, text)
    except ValidationFailed as error:
        raise typer.BadParameter(str(error)) from error


def name_and_value(option: str, given: str) -> tuple[str, str]:
    name, separator, value = given.partition("=")
    if not (name and separator):
        raise typer.BadParameter(f"{option} {given!r} is not NAME=VALUE")
    return name, value


def read_attribute(given: str) -> tuple[str, Attribute]:
    name, value = name_and_value("--attribute", given)
    name, _, kind = name.partition(":")
    if kind == "String.Array":
        return name, Attribute(kind, read_json("--attribute", value))
    return name, Attribute(kind or "String", value)


def read_json(option: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{option} {text!r} is not JSON: {error}") from error


def read_object(option: str, text: str) -> JsonObject:
    """A JSON object in the value of an option."""
    value = read_json(option, text)
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option} must be a JSON object, such as '{{\"key\": 1}}'")
    return value


def read_options(pairs: Sequence[str]) -> JsonObject:
    """Options of a subscription, each as KEY=JSON."""
    found: JsonObject = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            found[key] = json.loads(value)
        except ValueError as error:
            raise typer.BadParameter(
                f"--option {pair!r} is not KEY=JSON; a text has quotes: 'subject=\"Hello\"'"
            ) from error
    return found
