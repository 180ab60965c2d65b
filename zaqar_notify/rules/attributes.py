"""Message attributes: typed values by name beside a message's body, as SNS has them.

A client sends `{"NAME": {"type": TYPE, "value": VALUE}}`, or for most types the value alone. The service keeps,
encrypts and shows the *canonical text*: JSON of ASCII characters in one line, each value with its type, numbers as
they were written. So it can stand in a header as it is.

Source: Amazon SNS Developer Guide, "Message attributes".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.jsontext import check_json_text

MOST_ATTRIBUTES = 10
MOST_BYTES = 4096
"""Of the canonical text. Most HTTP servers take a header of 8 KiB, and some no more than that for all headers."""
MOST_NAME_CHARACTERS = 256

NAME_RULE = (
    "1 to 256 characters of A-Z a-z 0-9 _ - ., with no period at its ends or beside another one, and not beginning "
    "with AWS. or Amazon."
)
OF_LETTERS = "dead_letter."
"""The beginning of names that the service alone gives: a redrive believes them."""
_NAME = re.compile(r"(?!(?:aws|amazon)\.)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_LONGEST_NUMBER = 64

NO_ATTRIBUTES = msgspec.Raw(b"")
"""The attributes of a message that has none, in the place of their text."""

Value: TypeAlias = str | int | float | bool | list[str | int | float | bool | None] | None


class Attribute(msgspec.Struct, frozen=True):
    """A value with its type. A binary value is base64 text."""

    type: str
    value: Value


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    value: msgspec.Raw


class _Fault(ValueError):
    """The end of a sentence about a value."""


_by_name = msgspec.json.Decoder(dict[str, msgspec.Raw])
_given = msgspec.json.Decoder(_Given)
_string = msgspec.json.Decoder(str)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_attributes = msgspec.json.Decoder(dict[str, Attribute])


def canonical(text: bytes) -> bytes | None:
    """The canonical text of attributes that a client sent as JSON; None: there are none.

    Raises:
        ValidationFailed: Names the attribute, the limit and what is allowed.
    """
    if text == b"null":
        return None
    try:
        given = _by_name.decode(text)
    except msgspec.DecodeError as error:
        raise ValidationFailed(
            'attributes must be an object: {"NAME": {"type": …, "value": …}}'
        ) from error
    if len(given) > MOST_ATTRIBUTES:
        raise ValidationFailed(
            f"attributes are {len(given)}; a message has at most {MOST_ATTRIBUTES}"
        )
    if not given:
        return None
    made = f"{{{','.join(_written(given))}}}".encode()
    if len(made) > MOST_BYTES:
        raise ValidationFailed(
            f"attributes have {len(made)} bytes as JSON of ASCII characters; at most {MOST_BYTES} are allowed: "
            "put large values into the body"
        )
    return made


def check_names(canonical: bytes) -> None:
    """Refuse a client's attributes that say where a dead letter came from.

    Raises:
        ValidationFailed: Names the attribute.
    """
    if OF_LETTERS.encode() not in canonical:
        return
    for name in read_attributes(canonical):
        if name.startswith(OF_LETTERS):
            raise ValidationFailed(
                f"attributes: {name[:80]} is the service's to set, on dead letters; post the message without it"
            )


def read_attributes(canonical: bytes | None) -> Mapping[str, Attribute]:
    """The attributes in a canonical text, by name."""
    return {} if canonical is None else _attributes.decode(canonical)


def is_name(name: str) -> bool:
    """Whether an attribute may have the name."""
    return len(name) <= MOST_NAME_CHARACTERS and _NAME.fullmatch(name) is not None


def raw(canonical: bytes | None) -> msgspec.Raw:
    """The text for a place in other JSON; `NO_ATTRIBUTES` if there is none."""
    return NO_ATTRIBUTES if canonical is None else msgspec.Raw(canonical)


def from_raw(text: msgspec.Raw) -> bytes | None:
    """The text that `raw` was made of."""
    return None if text is NO_ATTRIBUTES else bytes(text) or None


def _written(given: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    for name, value in given.items():
        if not is_name(name):
            raise ValidationFailed(f"attributes: {name[:80]!r} is no name: it must be {NAME_RULE}")
        try:
            kind, text = _read(bytes(value))
        except _Fault as fault:
            raise ValidationFailed(f"attributes: {name[:80]} {fault}") from fault
        yield f'"{name}":{{"type":"{kind}","value":{text}}}'


def _read(given: bytes) -> tuple[str, str]:
    """The type of a value, and its text."""
    if given[:1] != b"{":
        kind = _SHORT.get(given[:1])
        if kind is None:
            raise _Fault(
                "must be a string, a number, an array, or an object with type and value, not "
                + given[:20].decode(errors="replace")
            )
        return kind, _WRITERS[kind](given)
    try:
        typed = _given.decode(given)
    except msgspec.DecodeError as error:
        raise _Fault('must have the fields "type", a string, and "value", and no other') from error
    write = _WRITERS.get(typed.type)
    if write is None:
        raise _Fault(f"has the type {typed.type[:40]!r}; it must be one of {', '.join(_WRITERS)}")
    return typed.type, write(bytes(typed.value))


def _write_string(given: bytes) -> str:
    return json.dumps(_text(given, "must be a string of at least one character"))


def _write_number(given: bytes) -> str:
    fault = f"must be a JSON number, or a string with one, of at most {_LONGEST_NUMBER} characters"
    text = _text(given, fault) if given[:1] == b'"' else given.decode()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        raise _Fault(fault)
    check_json_text(text.encode())
    return text


def _write_array(given: bytes) -> str:
    fault = "must be an array of at least one string, number, true, false or null"
    try:
        items = _items.decode(given)
    except msgspec.DecodeError as error:
        raise _Fault(fault) from error
    if not items:
        raise _Fault(fault)
    return f"[{','.join(_item(bytes(item), fault) for item in items)}]"


def _item(given: bytes, fault: str) -> str:
    if given in (b"true", b"false", b"null"):
        return given.decode()
    if given[:1] == b'"':
        return json.dumps(_decoded(given, fault))
    if given[:1] in b"[{":
        raise _Fault(fault)
    return _write_number(given)


def _write_binary(given: bytes) -> str:
    fault = "must be base64 text of at least one byte"
    text = _text(given, fault)
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Fault(fault) from error
    return json.dumps(text)


def _text(given: bytes, fault: str) -> str:
    """A string that is not empty."""
    text = _decoded(given, fault)
    if not text:
        raise _Fault(fault)
    return text


def _decoded(given: bytes, fault: str) -> str:
    try:
        return _string.decode(given)
    except msgspec.DecodeError as error:
        raise _Fault(fault) from error


_WRITERS: Mapping[str, Callable[[bytes], str]] = {
    "String": _write_string,
    "String.Array": _write_array,
    "Number": _write_number,
    "Binary": _write_binary,
}
_SHORT = {
    b'"': "String",
    b"[": "String.Array",
    **{bytes((sign,)): "Number" for sign in b"-0123456789"},
}
