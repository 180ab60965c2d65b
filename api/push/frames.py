"""Frames of Zaqar's WebSocket API: a text frame holds JSON, a binary frame holds MessagePack.

Behind this module a frame is JSON text. So a message's body stays as the client wrote it, and both
kinds of frames are read by the same rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TypeAlias

import msgspec
import orjson

from zaqar_notify.errors import BodyInvalid, NotifyError, ValidationFailed
from zaqar_notify.rules.jsontext import check_json_text

Data: TypeAlias = str | bytes
"""The content of a frame: text, or binary."""

MAX_HEADERS_BYTES = 64 << 10
"""Length of a frame's headers, as JSON text."""

_MAY_NOT_BE_FINITE = re.compile(rb"\xca[\x7f\xff][\x80-\xff]|\xcb[\x7f\xff][\xf0-\xff]")
"""How NaN and Infinity begin in MessagePack; other values may have these bytes, too."""

_PLAIN = (
    "It must have only maps with texts as keys, arrays, texts, finite numbers, true, false and nil"
)

SECRET_HEADERS = frozenset({"x-auth-token", "x-service-token", "authorization", "url-signature"})
"""Headers, in lower case, whose values no answer repeats."""

EMPTY = msgspec.Raw(b"{}")


class FrameInvalid(NotifyError):
    """The frame can't be read, or does not fit; the sentence is Zaqar's."""


class Request(msgspec.Struct):
    """The parts of a frame, as far as it has them; each is JSON text."""

    action: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    headers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_request = msgspec.json.Decoder(Request)
_headers = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(data: Data) -> Request:
    """The parts of a frame.

    Raises:
        FrameInvalid: It is not JSON, not MessagePack, or no object.
    """
    kind = "text (JSON)" if isinstance(data, str) else "binary (MessagePack)"
    try:
        text = data.encode() if isinstance(data, str) else _json_of(data)
        check_json_text(text)
        return _request.decode(text)
    except msgspec.ValidationError as error:
        raise FrameInvalid("Unexpected body type. Expected dict or dict like.") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValidationFailed) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise FrameInvalid(f"Can't decode {kind} request. {reason}") from error


def _json_of(packed: bytes) -> bytes:
    """MessagePack as JSON text. It takes no Python code for each value: a frame of 1 MB may have a million.

    Raises:
        BodyInvalid: It has a value that JSON has not.
    """
    try:
        value = msgspec.msgpack.decode(packed)
        text = orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME)
        if _MAY_NOT_BE_FINITE.search(packed):
            json.dumps(value, allow_nan=False)
    except msgspec.DecodeError:
        raise
    except (TypeError, ValueError) as error:
        raise BodyInvalid(f"{_PLAIN}: {error}") from error
    return text


def read_action(request: Request) -> str:
    """The name of a frame's action.

    Raises:
        FrameInvalid: It has none.
    """
    try:
        return msgspec.json.decode(request.action or b"null", type=str)
    except msgspec.DecodeError as error:
        given = bytes(request.action).decode()[:80] if request.action else "None"
        raise FrameInvalid(f"{given} is not a valid action") from error


def read_headers(request: Request) -> dict[str, msgspec.Raw]:
    """The headers of a frame by name; the values are JSON text.

    Raises:
        FrameInvalid: There are none, or they are no object.
    """
    if request.headers is msgspec.UNSET:
        raise FrameInvalid("Schema validation failed. The key headers is required")
    if len(bytes(request.headers)) > MAX_HEADERS_BYTES:
        raise FrameInvalid(f"headers must have at most {MAX_HEADERS_BYTES} bytes")
    try:
        return _headers.decode(request.headers)
    except msgspec.DecodeError as error:
        raise FrameInvalid("Schema validation failed. headers must be an object") from error


def answer(
    *,
    action: str | None,
    headers: Mapping[str, msgspec.Raw],
    body: msgspec.Raw,
    status: int,
    content: bytes,
) -> bytes:
    """The answer to a request, as JSON text. It repeats the request, without its secrets.

    Args:
        content: The body of the answer, JSON text.
    """
    blanked = {
        name: msgspec.Raw(b'""') if name.lower() in SECRET_HEADERS else value
        for name, value in headers.items()
    }
    return (
        b'{"request":{"action":%b,"body":%b,"headers":%b,"api":"v2"},"body":%b,"headers":{"status":%d}}'
        % (
            msgspec.json.encode(action),
            bytes(body),
            msgspec.json.encode(blanked),
            content,
            status,
        )
    )


def written(text: bytes, *, is_binary: bool) -> Data:
    """JSON text as the content of a frame."""
    if not is_binary:
        return text.decode()
    # An integer that MessagePack can't hold becomes a double: orjson reads it as one.
    return msgspec.msgpack.encode(orjson.loads(text))
