"""A request on its way to a handler: who asks, for what, and the body when it is wanted.

The headers are looked at as the bytes that they came as, each once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import count

from starlette.types import Receive, Scope

from api.exchange import leaves_much_unread
from api.headers import merged
from api.refusals import HeaderInvalid
from api.turns import Turn
from zaqar_notify.auth import Caller
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import QueueRef
from zaqar_notify.waiting import Wait

MAX_WARNINGS = 10


class CallerGone(Exception):
    """The client hung up before its request was complete: nobody is there to be answered."""


class Call:
    """One request to a resource.

    `caller` is set when the resource asks for identity, and then by its surface `project` and
    `client_id`, and `ref` when the path names a queue. `names` are the path's parameters. `is_waiting` says that it asked for a long poll.
    `path` is without the prefix of the public URL, links have it. `fault` is what is wrong with its
    headers, whatever it asks for. `turn` is its project's among those who read.
    """

    __slots__ = (
        "_receive",
        "_received",
        "caller",
        "client_id",
        "content_length",
        "fault",
        "has_body",
        "headers",
        "is_waiting",
        "method",
        "names",
        "path",
        "prefix",
        "project",
        "query_string",
        "ref",
        "request_id",
        "turn",
        "warnings",
    )

    caller: Caller
    project: str
    client_id: str
    ref: QueueRef
    names: dict[str, str]

    def __init__(self, scope: Scope, receive: Receive, request_id: bytes, prefix: str) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.prefix = prefix
        self.query_string: bytes = scope["query_string"]
        self.warnings: list[str] = []
        self.turn: Turn | None = None
        self.request_id = request_id
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(headers)
        self.fault: HeaderInvalid | None = None
        if len(self.headers) != len(headers):
            try:
                self.headers = merged(headers)
            except HeaderInvalid as error:
                self.fault = error
        # Whoever writes a later version in the text form of 1.1 is held to its rules.
        if b"host" not in self.headers and scope["http_version"] not in ("0.9", "1.0"):
            self.fault = HeaderInvalid("Missing header value", "HTTP/1.1 asks for the header Host")
        self._receive = receive
        self._received = False
        self.is_waiting = False
        self.content_length = int(self.headers.get(b"content-length", b"0"))
        self.has_body = self.content_length > 0
        coding = self.headers.get(b"transfer-encoding")
        if coding is not None:
            self.has_body = True
            if coding.lower() != b"chunked":
                self.fault = HeaderInvalid(
                    "Invalid header value", "Transfer-Encoding must be chunked, or absent"
                )

    @property
    def href(self) -> str:
        """A link to what was asked for, without its query."""
        return self.prefix + self.path

    def warn(self, sentence: str) -> None:
        """Tell the client that something it wrote has no effect; at most `MAX_WARNINGS` times."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(sentence)

    def header(self, name: bytes) -> str | None:
        """The header's value; any bytes can be read as Latin-1."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self, limit: int) -> bytes:
        """The whole body; empty when there is none.

        Raises:
            ValidationFailed: It is longer than `limit` bytes; no more than those were read.
            CallerGone: It never came.
        """
        if not self.has_body:
            return b""
        if self.content_length > limit:
            raise ValidationFailed(
                f"The body has {self.content_length} bytes; at most {limit} bytes are allowed here"
            )
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise CallerGone
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise ValidationFailed(
                    f"The body has more than {limit} bytes; at most {limit} bytes are allowed here"
                )
            more = event.get("more_body", False)
        self._received = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def wait(self, seconds: int) -> Wait:
        """A long poll of so many seconds; it ends early when the client hangs up."""
        self.is_waiting = True
        if self.turn is None:
            return Wait(seconds, self._hung_up)
        return Wait(seconds, self._hung_up, self.turn.aside)

    @property
    def must_close(self) -> bool:
        """Whether the connection ends with the answer."""
        return not self._received and self.has_body and leaves_much_unread(self.headers.items())

    async def _hung_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def request_ids() -> Iterator[bytes]:
    """`req-<uuid>` without end: a random part for this process, and a number for each request."""
    random = secrets.token_hex(10)
    prefix = f"req-{random[:8]}-{random[8:12]}-4{random[12:15]}-8{random[15:18]}-"
    for number in count(secrets.randbits(40)):
        yield f"{prefix}{number & 0xFFFFFFFFFFFF:012x}".encode("ascii")
