"""Templates of deliveries: a JSON document or a text in which `{{ path }}` stands for a value.

A path names a value of the delivery, as `body.order.id` or `attributes.colour`; `{{ body.name | "unknown" }}` has a
default for a value that is missing or null. There are no expressions, so filling a template takes a time that its
size and the delivery's bound.

In a JSON document a string that is one placeholder becomes the value itself, a number or an object as well. In a longer
string, and in a text, a value stands as text: a string without its quotes, anything else as JSON, and nothing for a
missing one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import msgspec
import orjson

from zaqar_notify.rules.placeholders import (
    OPEN,
    Placeholder,
    TemplateFault,
    pieces_of,
    shown,
    wrong,
)

MAX_PLACEHOLDERS = 200

_JSON_TEXT = re.compile(r'\s*(\{\s*"|\[\s*["{\[])')
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])

_Inside: TypeAlias = dict[str, msgspec.Raw] | list[msgspec.Raw]
"""The values inside of a value; of one that has none, an empty array."""
_MOST_DIGITS = 10

Values = Mapping[str, bytes]
"""The JSON text of each value that a path can begin with."""


class TooLarge(ValueError):
    """A filled template is larger than it may be."""


class Template(msgspec.Struct, frozen=True):
    """A template's parts in their order, constant ones as bytes."""

    parts: tuple[bytes | Placeholder, ...]
    is_json: bool

    def uses(self, root: str) -> bool:
        """Whether a placeholder's path begins with this value."""
        return any(isinstance(part, Placeholder) and part.steps[0] == root for part in self.parts)

    def fill(
        self, values: Values, *, most_bytes: int, quote: Callable[[str], str] | None = None
    ) -> bytes:
        """The template with the values put in.

        Args:
            quote: Makes a value harmless inside of a text, as `html.escape` does; a JSON document has its own way.

        Raises:
            TooLarge: The result has more than `most_bytes`.
        """
        found = _Found(values)
        filled: list[bytes] = []
        size = 0
        for part in self.parts:
            piece = part if isinstance(part, bytes) else self._piece(part, found, quote)
            size += len(piece)
            if size > most_bytes:
                raise TooLarge
            filled.append(piece)
        return b"".join(filled)

    def _piece(
        self, place: Placeholder, found: _Found, quote: Callable[[str], str] | None
    ) -> bytes:
        value = found.value(place.steps)
        if value == b"null":
            value = place.default
        if place.is_whole:
            return value
        if self.is_json:
            return _in_string(value)
        text = _as_text(value)
        return (quote(text) if quote else text).encode(errors="replace")


class _Found:
    """The values of one delivery; each object on the way to them is read once."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._opened: dict[tuple[str, ...], _Inside] = {}

    def value(self, steps: tuple[str, ...]) -> bytes:
        """The JSON text of a value; null: it is missing."""
        if steps[0] == "attributes":
            steps = (*steps[:2], "value", *steps[2:])
        value = self._values.get(steps[0], b"null")
        for depth in range(1, len(steps)):
            found = _at(steps[depth], self._open(steps[:depth], value))
            if found is None:
                return b"null"
            value = bytes(found)
        return value

    def _open(self, steps: tuple[str, ...], value: bytes) -> _Inside:
        if steps not in self._opened:
            self._opened[steps] = _inside(value)
        return self._opened[steps]


def _inside(value: bytes) -> _Inside:
    if value.startswith(b"{"):
        return _OBJECT.decode(value)
    return _ARRAY.decode(value) if value.startswith(b"[") else []


def _at(step: str, inside: _Inside) -> msgspec.Raw | None:
    """The value of an object by its name, of an array by its number."""
    if isinstance(inside, dict):
        return inside.get(step)
    is_number = step.isascii() and step.isdecimal() and len(step) < _MOST_DIGITS
    return inside[int(step)] if is_number and int(step) < len(inside) else None


def _in_string(value: bytes) -> bytes:
    """A value inside of a string of a JSON document; that of a string stays as it is escaped."""
    if value == b"null":
        return b""
    if value.startswith(b'"'):
        return value[1:-1]
    return orjson.dumps(value.decode())[1:-1]


def _as_text(value: bytes) -> str:
    if value == b"null":
        return ""
    return str(json.loads(value)) if value.startswith(b'"') else value.decode()


def check_text_template(text: str, option: str) -> None:
    """Refuse a text with placeholders that can't be filled.

    Raises:
        ValidationFailed: Names the option and the placeholder, and what is wrong there.
    """
    try:
        if OPEN in text:
            template_of(orjson.dumps(text))
    except TemplateFault as fault:
        raise TemplateFault(fault.sentence, option) from None


def parse_template(document: object) -> Template | None:
    """Read a client's template; None: there is none.

    Raises:
        ValidationFailed: Names the placeholder or the place in the document, and what is wrong there.
    """
    if document is None:
        return None
    if not isinstance(document, dict | list | str) or not document:
        raise wrong("must be a JSON object or array, or a text that is not empty")
    return template_of(orjson.dumps(document))


# As many as have room in some 20 MiB: options have 64 KiB at most.
@lru_cache(maxsize=256)
def template_of(document: bytes) -> Template:
    """The template whose JSON text is given. Raises ValidationFailed."""
    value = orjson.loads(document)
    if isinstance(value, str):
        if _JSON_TEXT.match(value):
            raise wrong("is a JSON document in a text: send the object or array itself")
        parts = [each.encode() if isinstance(each, str) else each for each in pieces_of(value)]
    else:
        parts = list(_joined(_json_parts(value)))
    if sum(isinstance(each, Placeholder) for each in parts) > MAX_PLACEHOLDERS:
        raise wrong(f"has more than {MAX_PLACEHOLDERS} placeholders")
    return Template(tuple(parts), is_json=not isinstance(value, str))


def _json_parts(value: object) -> Iterator[bytes | Placeholder]:
    """The parts of a JSON document in their order."""
    if isinstance(value, dict):
        for number, (name, each) in enumerate(value.items()):
            if OPEN in name:
                raise wrong(
                    f"has a placeholder in the name {shown(name)}; only values may have one"
                )
            yield (b"{" if number == 0 else b",") + orjson.dumps(name) + b":"
            yield from _json_parts(each)
        yield b"}" if value else b"{}"
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield b"[" if number == 0 else b","
            yield from _json_parts(each)
        yield b"]" if value else b"[]"
    elif isinstance(value, str) and OPEN in value:
        yield from _string_parts(pieces_of(value))
    else:
        yield orjson.dumps(value)


def _string_parts(pieces: Sequence[str | Placeholder]) -> Iterator[bytes | Placeholder]:
    first = pieces[0]
    if len(pieces) == 1 and isinstance(first, Placeholder):
        yield msgspec.structs.replace(first, is_whole=True)
        return
    yield b'"'
    for piece in pieces:
        yield orjson.dumps(piece)[1:-1] if isinstance(piece, str) else piece
    yield b'"'


def _joined(parts: Iterator[bytes | Placeholder]) -> Iterator[bytes | Placeholder]:
    """The parts, constant ones beside each other as one."""
    constant: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            constant.append(part)
            continue
        if constant:
            yield b"".join(constant)
            constant = []
        yield part
    if constant:
        yield b"".join(constant)
