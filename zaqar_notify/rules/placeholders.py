"""Placeholders of a template: `{{ path }}`, or `{{ path | default }}` with a default for a value that is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import msgspec
import orjson

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.attributes import is_name

TEMPLATE_KEY = "_delivery_template"

MAX_STEPS = 16
"""Of one path: each may look at the whole body once."""
_SHOWN_CHARACTERS = 60

FIELDS: Mapping[str, Sequence[str]] = {
    "message": ("id", "ttl", "posted_at"),
    "delivery": ("id", "attempt", "sent_at"),
    "subscription": ("id",),
}
"""Values with fields of their own, and these."""
UNSUBSCRIBE_URL = "unsubscribe_url"
"""The value that mails alone have."""
VALUES = ("queue", "project", "notification", UNSUBSCRIBE_URL)
"""Values without fields."""
ROOTS = ("body", "attributes", *FIELDS, *VALUES)

OPEN, _CLOSE = "{{", "}}"
_STEP = r'(?:[\w-]+|"(?:[^"\\]|\\.)*")'
_PATH = re.compile(rf"\s*([A-Za-z_]+(?:\.{_STEP})*)\s*")
_STEPS = re.compile(_STEP)
_BLANKS = re.compile(r"\s*")
_literal = json.JSONDecoder().raw_decode


class TemplateFault(ValidationFailed):
    """An option is no template; `sentence` says why, without the name of the option."""

    def __init__(self, sentence: str, option: str = TEMPLATE_KEY) -> None:
        super().__init__(f"options: {option} {sentence}")
        self.sentence = sentence


class Placeholder(msgspec.Struct, frozen=True):
    """The place of a value. `is_whole`: it is all of a string in a JSON document."""

    steps: tuple[str, ...]
    default: bytes
    """JSON text; null: there is none."""
    is_whole: bool = False


def pieces_of(text: str) -> list[str | Placeholder]:
    """A text, cut at its placeholders. `{{ "{{" }}`, a string in place of a path, stands for the string."""
    pieces: list[str | Placeholder] = []
    at = 0
    while (opened := text.find(OPEN, at)) >= 0:
        piece, end = _placeholder(text, opened)
        pieces += [text[at:opened], piece] if opened > at else [piece]
        at = end
    return [*pieces, text[at:]] if at < len(text) or not pieces else pieces


def _placeholder(text: str, opened: int) -> tuple[str | Placeholder, int]:
    """The placeholder that begins there, and the place behind it."""
    at = opened + len(OPEN)
    path = _PATH.match(text, at)
    if path is None:
        literal, end = _read_literal(text, at, opened)
        if literal[:1] != b'"':
            raise _malformed(text, opened)
        return orjson.loads(literal), _end(text, end, opened)
    default, end = b"null", path.end()
    if text.startswith("|", end):
        default, end = _read_literal(text, end + 1, opened)
    end = _end(text, end, opened)
    try:
        steps = tuple(map(_step, _STEPS.findall(path[1])))
    except ValueError:
        raise _malformed(text, opened) from None
    _check_steps(steps, path[1])
    return Placeholder(steps, default), end


def _read_literal(text: str, at: int, opened: int) -> tuple[bytes, int]:
    """The JSON text of a string, a number, true, false or null, and the place behind it."""
    try:
        value, end = _literal(text, _after_blanks(text, at))
        written = orjson.dumps(value)
    except (ValueError, TypeError, RecursionError):
        raise _malformed(text, opened) from None
    if written[:1] in b"[{":
        raise _malformed(text, opened)
    return written, end


def _malformed(text: str, opened: int) -> ValidationFailed:
    return wrong(
        f"has {shown(text[opened:])}, which is neither {{{{ path }}}} nor {{{{ path | default }}}}; a path "
        f"begins with one of {', '.join(ROOTS)}, a default is a string in quotes, a number, true or false"
    )


def _end(text: str, at: int, opened: int) -> int:
    at = _after_blanks(text, at)
    if not text.startswith(_CLOSE, at):
        raise _malformed(text, opened)
    return at + len(_CLOSE)


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _step(step: str) -> str:
    return str(json.loads(step)) if step.startswith('"') else step


def _check_steps(steps: Sequence[str], path: str) -> None:
    """Refuse a path that leads to nothing in any delivery."""
    root, *below = steps
    if len(steps) > MAX_STEPS:
        raise wrong(f"{shown(path)} has {len(steps)} steps; at most {MAX_STEPS} are allowed")
    if root not in ROOTS:
        raise wrong(f"{shown(path)} can't be filled: a path begins with one of {', '.join(ROOTS)}")
    if root in VALUES and below:
        raise wrong(f"{shown(path)} can't be filled: {root} has no fields")
    if root in FIELDS and (len(below) != 1 or below[0] not in FIELDS[root]):
        known = ", ".join(f"{root}.{field}" for field in FIELDS[root])
        raise wrong(f"{shown(path)} can't be filled; known are {known}")
    if root == "attributes" and not (below and is_name(below[0])):
        raise wrong(f"{shown(path)} can't be filled: attributes. and the name of an attribute")


def wrong(sentence: str) -> ValidationFailed:
    return TemplateFault(sentence)


def shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
