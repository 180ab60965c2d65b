"""A receiver's answer, malformed answers included, because the status line counts.

A receiver that answers 200 has the message, even if the rest of its answer is broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from sinks.retry_after import NAMES, Fields

START_BYTES = 1024
"""The part of a body that is kept: enough for an excerpt."""

_STATUS_LINE = re.compile(
    rb"[\r\n]*HTTP/[0-9](?:\.[0-9])?[ \t]+([1-5][0-9][0-9])(?=[ \t\r\n])([^\r\n]*)"
)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_PACING = re.compile(
    rb"\n(" + b"|".join(sorted(NAMES, reverse=True)) + rb")[ \t]*:([^\r\n]*)", re.IGNORECASE
)
_SWITCHING_PROTOCOLS = 101


class Response(msgspec.Struct, frozen=True):
    """A receiver's answer. `pacing` has its headers about waits: those of `retry_after.NAMES`."""

    status: int
    reason: str
    pacing: Fields
    start: bytes
    """The first bytes of the body, 1024 at most."""


def is_final(status: int) -> bool:
    """Whether no other status follows in this answer."""
    return status >= 200 or status == _SWITCHING_PROTOCOLS


def is_begun(text: bytearray) -> bool:
    """Whether an answer of HTTP/1 may begin so."""
    return b"HTTP/".startswith(text[:16].lstrip(b"\r\n")[:5])


def may_end(text: bytearray, new: int) -> bool:
    """Whether the last `new` bytes have completed a head. Cheap, however small the pieces are."""
    return _END_OF_HEAD.search(text, max(len(text) - new - 3, 0)) is not None


def read_malformed(text: bytearray) -> tuple[Response | None, bool]:
    """The answer as far as it can be told, and whether its head has come to an end.

    Args:
        text: All bytes that came, interim answers included.
    """
    place = 0
    while line := _STATUS_LINE.match(text, place):
        end = _END_OF_HEAD.search(text, line.end())
        status = int(line[1])
        if is_final(status):
            head = text[line.end() : end.start() if end else len(text)]
            body = text[end.end() :][:START_BYTES] if end else b""
            answer = Response(
                status,
                as_text(line[2]),
                as_fields(_PACING.findall(head)),
                bytes(body),
            )
            return answer, end is not None
        if end is None:
            break
        place = end.end()
    return None, False


def as_fields(found: Iterable[tuple[bytes, bytes]]) -> Fields:
    return tuple((as_text(name).lower(), as_text(value)) for name, value in found)


def as_text(value: bytes | bytearray) -> str:
    return value.strip().decode(errors="replace")
