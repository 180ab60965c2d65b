"""A frame on its way to a handler, in the form of the HTTP request that would do the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from api.push.frames import FrameInvalid
from api.push.subscribing import Subscribing
from api.refusals import HeaderInvalid
from api.requests import LARGE_BODY_BYTES, Call
from api.zaqar.admission import read_client_id, set_project, without_client_id
from zaqar_notify.auth import is_operator
from zaqar_notify.errors import ProjectNotPermitted, ValidationFailed
from zaqar_notify.settings import Settings

CLIENT_ID = "Client-ID"
PROJECT = "X-Project-ID"
SIGNATURE = ("URL-Signature", "URL-Expires", "URL-Methods", "URL-Paths")

_CONTROL = re.compile("[\x00-\x1f\x7f]")


class FrameCall(Call):
    """The request of one frame. `fields` is its body, read as the action's type; `text` is the same as JSON text."""

    named_project: str | None = None
    """The project that the frame names."""
    needs_client_id: bool = False
    """Whether the client's id must be well-formed."""
    subscribing: Subscribing | None = None
    """The subscriptions of the socket."""
    is_binary: bool = False
    when_admitted: Callable[[str], None] | None = None
    """Told the project before the request is judged by the policy; it may refuse."""

    def __init__(
        self,
        *,
        method: str,
        path: str,
        names: dict[str, str],
        headers: Mapping[bytes, bytes],
        request_id: bytes,
        fields: msgspec.Struct | None = None,
        text: bytes = b"",
    ) -> None:
        scope: dict[str, Any] = {
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": list(headers.items()),
            "http_version": "1.1",
        }
        super().__init__(scope, _nothing, request_id, "", "", names)
        self.fields = fields
        self.text = text

    async def body(self, limit: int) -> bytes:
        """The frame's body, once it may be read.

        Raises:
            ValidationFailed: It is longer than `limit` bytes.
            Overloaded: There are too many bodies of other requests.
        """
        size = len(self.text)
        if size > limit:
            raise ValidationFailed(
                f"The body has {size} bytes; at most {limit} bytes are allowed here"
            )
        self.admitted.hold(size)
        if size > LARGE_BODY_BYTES:
            await self.admitted.turn()
        return self.text


async def _nothing() -> Any:
    return {"type": "http.disconnect"}


def header(value: msgspec.Raw | None, name: str) -> bytes | None:
    """The text of a header in a frame, as HTTP has it; None: it is absent.

    Raises:
        FrameInvalid: It is no text.
        HeaderInvalid: HTTP could not carry it.
    """
    if value is None:
        return None
    try:
        text = msgspec.json.decode(value, type=str)
    except msgspec.DecodeError as error:
        raise FrameInvalid(f"Schema validation failed. {name} must be a string") from error
    if _CONTROL.search(text):
        raise HeaderInvalid("Invalid header value", f"{name} must have no control characters")
    return text.encode()


def signature_headers(given: Mapping[str, msgspec.Raw]) -> dict[bytes, bytes]:
    """The headers of a pre-signed frame as HTTP has them: its lists become texts with commas.

    Raises:
        FrameInvalid: One is neither a text nor a list of texts.
    """
    found: dict[bytes, bytes] = {}
    for name in SIGNATURE:
        try:
            value = msgspec.json.decode(given.get(name, b'""'), type=str | list[str])
        except msgspec.DecodeError as error:
            raise FrameInvalid(
                f"Schema validation failed. {name} must be a string or an array of strings"
            ) from error
        text = value if isinstance(value, str) else ",".join(value)
        found[name.lower().encode()] = text.encode()
    return found


def admit(call: Call, settings: Settings) -> None:
    """Check the head of a frame whose caller is known.

    Raises:
        ProjectNotPermitted: The frame names another project than that of the socket's caller.
        HeaderInvalid: The client's id is malformed, or there is no project.
        QueueNameInvalid: No queue can have the name.
    """
    assert isinstance(call, FrameCall)  # noqa: S101 - the gate passes on what it was given
    client_id = call.headers.get(b"client-id")
    if client_id is None:
        raise without_client_id()
    call.client_id = client_id.decode("latin-1")
    if call.needs_client_id:
        call.client_id = read_client_id(client_id, settings)
    named, own = call.named_project, call.caller.project
    if named and named != own:
        raise ProjectNotPermitted(named)
    if own is None and (call.needs_project or not is_operator(call.caller)):
        raise HeaderInvalid("Project-Id Missing", "The header X-Project-ID is required")
    set_project(call, own or "")
    if call.when_admitted is not None:
        call.when_admitted(call.project)
