"""What a handler gives back: a status, prepared bytes, and headers beyond the common ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http import HTTPStatus

import msgspec
import orjson


class Answer(msgspec.Struct, frozen=True):
    """`body` is JSON unless `content_type` names another.

    The parts of a body that is an iterator are sent as they come, until the client hangs up; the iterator
    is an async generator, and closed in any case.
    """

    status: int
    body: bytes | AsyncGenerator[bytes, None] = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"

    @property
    def whole(self) -> bytes:
        """The body, if it is there; empty if its parts are still to come."""
        return self.body if isinstance(self.body, bytes) else b""


NO_CONTENT = Answer(HTTPStatus.NO_CONTENT)


def document(value: object, status: int = HTTPStatus.OK) -> Answer:
    return Answer(status, orjson.dumps(value))


def at(status: int, location: str, body: bytes = b"") -> Answer:
    """An answer that names where the thing is; `location` is ASCII."""
    return Answer(status, body, ((b"Location", location.encode("ascii")),))


def warning(sentence: str) -> bytes:
    """The value of a `Warning` header: code 299, no agent, and the sentence in quotes.

    Source: RFC 7234, 5.5.
    """
    text = sentence.encode("ascii", "replace").translate(_PRINTABLE)
    return b'299 - "%b"' % text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


_PRINTABLE = bytes(code if 32 <= code < 127 else ord("?") for code in range(256))
