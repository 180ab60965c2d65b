"""The answer of a handler: a status, prepared bytes, and headers beyond the common ones."""

from __future__ import annotations

from collections.abc import AsyncIterable
from http import HTTPStatus
from typing import Protocol

import msgspec
import orjson


class Parts(AsyncIterable[bytes], Protocol):
    """A body in parts, such as an async generator."""

    async def aclose(self) -> None: ...


class Answer(msgspec.Struct, frozen=True):
    """`body` is JSON unless `content_type` names another.

    The parts of a body in parts are sent as they come, until the client hangs up. It is closed in every
    case.
    """

    status: int
    body: bytes | Parts = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"

    @property
    def whole(self) -> bytes:
        """The complete body; empty when the body comes in parts."""
        return self.body if isinstance(self.body, bytes) else b""


NO_CONTENT = Answer(HTTPStatus.NO_CONTENT)


def document(value: object, status: int = HTTPStatus.OK) -> Answer:
    return Answer(status, orjson.dumps(value))


def at(status: int, location: str, body: bytes = b"") -> Answer:
    """An answer with a `Location` header; `location` is ASCII."""
    return Answer(status, body, ((b"Location", location.encode("ascii")),))


def warning(sentence: str) -> bytes:
    """The value of a `Warning` header: code 299, no agent, and the sentence in quotes.

    Source: RFC 7234, 5.5.
    """
    text = sentence.encode("ascii", "replace").translate(_PRINTABLE)
    return b'299 - "%b"' % text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


_PRINTABLE = bytes(code if 32 <= code < 127 else ord("?") for code in range(256))
