"""A request on its way to a handler: its caller, its path, its headers, and its body on demand.

Headers stay bytes, and each header is looked at once.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from itertools import count

from starlette.requests import Request
from starlette.types import Receive, Scope

from api.exchange import leaves_much_unread
from api.headers import merged
from api.in_flight import Admitted
from api.refusals import HeaderInvalid
from api.turns import Turn
from zaqar_notify.auth import Caller, Policy, Target, check_right
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import TOPIC_MARK, QueueRef
from zaqar_notify.waiting import Wait

MAX_WARNINGS = 10
LARGE_BODY_BYTES = 16 << 10
"""A longer body takes more than a few milliseconds to read, so it waits for its turn."""


class CallerGone(Exception):
    """The client hung up before its request was begun, so no answer is sent."""


class Call:
    """One request to a resource.

    The gate sets `policy`. When the resource requires identity, it sets `caller`, and the surface sets `project` and
    `client_id`, and `ref` if the path names a queue. `wire` is the prefix of the surface. `names`
    are the path's parameters. `path` lacks the prefix of the public URL; links have it. `fault` is an error in the headers
    that refuses the request on every path. `turn` is the turn of a reading request. `is_waiting`:
    the request is a long poll. `needs_project`: the operation is about one project. `has_taken_query`:
    credentials in the query stand among the headers. `is_stream`: the answer is a stream of events.
    `read` waits until the client has read nearly all that was sent.
    """

    admitted: Admitted
    caller: Caller
    policy: Policy
    project: str
    client_id: str
    ref: QueueRef
    wire: str = ""
    turn: Turn | None = None
    fault: HeaderInvalid | None = None
    warnings: Sequence[str] = ()
    is_waiting = False
    needs_project = True
    has_taken_query = False
    is_stream = False
    read: Callable[[], Awaitable[object]] | None = None
    _received = False

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        request_id: bytes,
        before: str,
        public_path: str,
        names: dict[str, str],
    ) -> None:
        """`before` is the part of the path before the resource's own."""
        self.method: str = scope["method"]
        self.path: str = scope["path"].removeprefix(before) or "/"
        self.prefix = public_path or before
        self.names = names
        self.query_string: bytes = scope["query_string"]
        self.request_id = request_id
        self._receive = receive
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(headers)
        if len(self.headers) != len(headers):
            try:
                self.headers = merged(headers)
            except HeaderInvalid as error:
                self.fault = error
        # A later version in the text form of HTTP/1.1 follows the rules of HTTP/1.1.
        if b"host" not in self.headers and scope["http_version"] not in ("0.9", "1.0"):
            self.fault = HeaderInvalid("Missing header value", "HTTP/1.1 asks for the header Host")
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
    def queue_name(self) -> str | None:
        """The stored name of the queue or topic that the path names; it may be no valid name."""
        if (topic := self.names.get("topic_name")) is not None:
            return TOPIC_MARK + topic
        return self.names.get("queue_name")

    @property
    def href(self) -> str:
        """A link to the resource of the request, without the query."""
        return self.prefix + self.path

    def warn(self, sentence: str) -> None:
        """Tell the client that a part of its request has no effect; `MAX_WARNINGS` at most."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings = (*self.warnings, sentence)

    def check_post(self, ref: QueueRef) -> None:
        """Refuse a queue to which the caller may not post."""
        target = Target(ref.project, ref.public_name)
        check_right(self.policy, self.caller, "messages:create", target)

    def header(self, name: bytes) -> str | None:
        """The header's value, read as Latin-1, because Latin-1 can read any bytes."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self, limit: int) -> bytes:
        """The whole body; empty when the request has none.

        Raises:
            ValidationFailed: The body is longer than `limit` bytes; reading stopped there.
            CallerGone: The client hung up before the body was complete, or before its turn.
            Overloaded: There are too many bodies of other requests.
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
            part = event.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > limit:
                raise ValidationFailed(
                    f"The body has more than {limit} bytes; at most {limit} bytes are allowed here"
                )
            more = event.get("more_body", False)
        self._received = True
        self.admitted.hold(size)
        if size > LARGE_BODY_BYTES:
            await self.admitted.turn()
            if await Request({"type": "http"}, self._receive).is_disconnected():
                raise CallerGone
        return b"".join(parts)

    def wait(self, seconds: int, place: Callable[[], AbstractAsyncContextManager[None]]) -> Wait:
        """A long poll of at most `seconds`; it ends early when the client hangs up."""
        self.is_waiting = True
        return Wait(seconds, self._hung_up, self._aside, place)

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[None]:
        """Leave room for other requests while this one waits."""
        self.admitted.rest()
        async with nullcontext() if self.turn is None else self.turn.aside():
            yield

    @property
    def must_close(self) -> bool:
        """Whether the connection ends with the answer."""
        return not self._received and self.has_body and leaves_much_unread(self.headers.items())

    async def _hung_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def request_ids() -> Iterator[bytes]:
    """Endless ids `req-<uuid>`: a random part for the process, and a number for each request."""
    random = secrets.token_hex(10)
    prefix = f"req-{random[:8]}-{random[8:12]}-4{random[12:15]}-8{random[15:18]}-"
    for number in count(secrets.randbits(40)):
        yield f"{prefix}{number & 0xFFFFFFFFFFFF:012x}".encode("ascii")
