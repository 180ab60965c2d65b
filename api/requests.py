"""A request on its way to a handler: who asks, for what, and the body when it is wanted.

The headers are looked at as the bytes that they came as, each once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import count

from starlette.types import Receive, Scope

from api.headers import (
    admits_json,
    canonical_uuid,
    free_client_id,
    merged,
    project_of,
    project_or_none,
)
from zaqar_notify.clock import host_now
from zaqar_notify.errors import HeaderInvalid, ValidationFailed
from zaqar_notify.installation import is_own_delivery
from zaqar_notify.models import QueueRef
from zaqar_notify.names import queue_ref
from zaqar_notify.service import Service
from zaqar_notify.signing import verify_url
from zaqar_notify.waiting import Wait

DISCARDED_BODY_BYTES = 1 << 20
"""A refused body up to this size is taken off the wire, so that its sender reads the refusal."""

MAX_WARNINGS = 10


class CallerGone(Exception):
    """The client hung up before its request was complete: nobody is there to be answered."""


class Call:
    """One request to a resource.

    `project` and `client_id` are set when the resource asks for identity, `ref` when its path names
    a queue. `names` are the path's parameters. `is_waiting` says that it asked for a long poll.
    `path` is without the prefix of the public URL, links have it. `fault` is what is wrong with its
    headers, whatever it asks for.
    """

    __slots__ = (
        "_headers",
        "_receive",
        "_received",
        "client_id",
        "content_length",
        "fault",
        "has_body",
        "is_waiting",
        "method",
        "names",
        "path",
        "prefix",
        "project",
        "query_string",
        "ref",
        "request_id",
        "warnings",
    )

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
        self.request_id = request_id
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._headers: dict[bytes, bytes] = dict(headers)
        self.fault: HeaderInvalid | None = None
        if len(self._headers) != len(headers):
            try:
                self._headers = merged(headers)
            except HeaderInvalid as error:
                self.fault = error
        # Whoever writes a later version in the text form of 1.1 is held to its rules.
        if b"host" not in self._headers and scope["http_version"] not in ("0.9", "1.0"):
            self.fault = HeaderInvalid("Missing header value", "HTTP/1.1 asks for the header Host")
        self._receive = receive
        self._received = False
        self.is_waiting = False
        self.content_length = int(self._headers.get(b"content-length", b"0"))
        self.has_body = self.content_length > 0
        coding = self._headers.get(b"transfer-encoding")
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
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def is_own_delivery(self, mark: str) -> bool:
        """Whether this installation's own workers sent it, on behalf of a subscription."""
        return is_own_delivery(self._headers, mark)

    @property
    def signed_paths(self) -> list[str]:
        """What a pre-signed URL was made for; nothing without one.

        Of an identified call: by then the signature has been verified.
        """
        if b"url-signature" not in self._headers:
            return []
        return (self.header(b"url-paths") or "").split(",")

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
        return Wait(seconds, self._hung_up)

    @property
    def must_close(self) -> bool:
        """Whether the connection ends with the answer: more of an unread body may follow than another
        request is worth. A body that its sender wanted to be asked for may not follow at all.
        """
        if self._received or not self.has_body:
            return False
        return (
            self.content_length > DISCARDED_BODY_BYTES
            or b"transfer-encoding" in self._headers
            or b"expect" in self._headers
        )

    async def _hung_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def identify(self, service: Service, *, signable: bool) -> None:
        """Check the headers that every request needs, in the contract's order, and the queue's name.

        Raises:
            SignatureRefused: It is pre-signed, and not for this.
            HeaderInvalid: One is missing or malformed.
            QueueNameInvalid: The path's queue can't exist.
        """
        headers = self._headers
        if b"url-signature" in headers:
            self._check_signature(service, signable=signable)
        if self.has_body and headers.get(b"content-type", b"").lower() == _FORM:
            raise HeaderInvalid(
                "Invalid Content-Type", "Send the body as application/json, not as a form"
            )
        accept = headers.get(b"accept", b"*/*")
        if accept != b"*/*" and not admits_json(accept):
            raise NotAcceptable
        client_id = headers.get(b"client-id")
        if client_id is None:
            raise HeaderInvalid("Missing header value", "The header Client-ID is required")
        if service.settings.client_id_uuid_safe == "strict":
            self.client_id = canonical_uuid(client_id)
        else:
            self.client_id = free_client_id(client_id, service.settings)
        self.project = project_of(headers)
        name = self.names.get("queue_name")
        if name is not None:
            self.ref = queue_ref(self.project, name)

    def _check_signature(self, service: Service, *, signable: bool) -> None:
        verify_url(
            [secret.get_secret_value() for secret in service.settings.signed_url_secrets]
            if signable
            else [],
            signature=self.header(b"url-signature") or "",
            paths_header=self.header(b"url-paths") or "",
            methods_header=self.header(b"url-methods") or "",
            expires_header=self.header(b"url-expires") or "",
            project=project_or_none(self._headers) or "",
            method=self.method,
            path=self.path,
            prefix=self.prefix,
            now=host_now(service.clock),
        )


class NotAcceptable(Exception):
    """The client takes no JSON."""


_FORM = b"application/x-www-form-urlencoded"


def request_ids() -> Iterator[bytes]:
    """`req-<uuid>` without end: a random part for this process, and a number for each request."""
    random = secrets.token_hex(10)
    prefix = f"req-{random[:8]}-{random[8:12]}-4{random[12:15]}-8{random[15:18]}-"
    for number in count(secrets.randbits(40)):
        yield f"{prefix}{number & 0xFFFFFFFFFFFF:012x}".encode("ascii")
