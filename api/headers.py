"""The meaning of request headers, as bytes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache

from api.refusals import HeaderInvalid
from zaqar_notify.settings import Settings

MAX_UUID_BYTES = 64
"""The longest usual form, `urn:uuid:` with dashes and braces, has 47 bytes."""

SENT_ONCE = re.compile(
    rb"host|client-id|content-type|authorization|idempotency-key|zaqar-.*|extra-spec"
    rb"|url-.*|x-(auth|service)-.*|x-(project|tenant|user|domain|roles|trust)\b.*"
)
"""Headers that may stand once. Of two, one could come from a proxy and the other from a client."""

_PLAIN_UUID = re.compile(
    rb"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
)


def merged(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name. The lines of a repeated header are joined, as lines of a list.

    Raises:
        HeaderInvalid: A header of `SENT_ONCE` is repeated.
    """
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lines.setdefault(name, []).append(value)
    for name, values in lines.items():
        if len(values) > 1 and SENT_ONCE.fullmatch(name):
            raise HeaderInvalid(
                "Invalid header value",
                f"The header {name.decode('latin-1')[:80]} was sent {len(values)} times",
            )
    return {name: b", ".join(values) for name, values in lines.items()}


JSON = b"application/json"
EVENTS = b"text/event-stream"


@lru_cache(maxsize=64)
def admits_json(accept: bytes) -> bool:
    """Whether an Accept header admits `application/json`; an empty one admits everything."""
    if not accept.strip():
        return True
    weights = _weights(accept)
    for kind in (JSON, b"application/*", b"*/*"):
        if kind in weights:
            return weights[kind] > 0
    return False


@lru_cache(maxsize=64)
def prefers_events(accept: bytes) -> bool:
    """Whether an Accept header names `text/event-stream`, and not JSON with the same weight."""
    weights = _weights(accept)
    return weights.get(EVENTS, 0) > weights.get(JSON, 0)


def _weights(accept: bytes) -> dict[bytes, float]:
    """The weight of each range of media types."""
    ranges = [part.split(b";") for part in accept.lower().split(b",")]
    return {
        # The HTTP client of Java sends a lone star for */*.
        b"*/*" if kind.strip() == b"*" else kind.strip(): _weight(parameters)
        for kind, *parameters in ranges
    }


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0
    return 1


@lru_cache(maxsize=4096)
def canonical_uuid(value: bytes) -> str:
    """A UUID in any usual form, as 32 lower-case hex digits, because clients send several forms.

    Raises:
        HeaderInvalid: The value is no UUID.
    """
    if _PLAIN_UUID.fullmatch(value):
        return value.replace(b"-", b"").lower().decode("ascii")
    try:
        # Python accepts any number of dashes; such long keys would fill the cache.
        if len(value) > MAX_UUID_BYTES:
            raise ValueError("too long for a UUID")
        return uuid.UUID(value.decode("ascii")).hex
    except ValueError as error:
        raise HeaderInvalid(
            "Wrong UUID value", "The header Client-ID must be a UUID, with or without dashes"
        ) from error


_PORT = re.compile(rb":\d*\Z")


@lru_cache(maxsize=64)
def public_name(host: bytes) -> str | None:
    """The name in a `Host` header, if the DNS of the Internet may have it; None for local names and addresses."""
    name = _PORT.sub(b"", host.strip().lower()).removesuffix(b".")
    end = name.rpartition(b".")[2]
    # URLs whose last label is a number hold an IPv4 address: https://url.spec.whatwg.org/#host-parsing
    is_address = name.startswith(b"[") or end.isdigit()
    is_local = end == b"localhost" or b"." not in name
    return None if is_address or is_local else name.decode("latin-1")


def free_client_id(value: bytes, settings: Settings) -> str:
    text = value.decode("latin-1")
    least, most = settings.min_length_client_id, settings.max_length_client_id
    if not least <= len(text) <= most:
        raise HeaderInvalid(
            "Wrong UUID value",
            f"The header Client-ID must have {least} to {most} characters, not {len(text)}",
        )
    return text


def without_project(headers: Mapping[bytes, bytes]) -> HeaderInvalid:
    """The error of a request that names no project."""
    if project_or_none(headers) is None:
        return HeaderInvalid("Project-Id Missing", "The header X-Project-ID is required")
    return HeaderInvalid(
        "Empty project header not allowed", "The header X-Project-ID must not be empty"
    )


def project_or_none(headers: Mapping[bytes, bytes]) -> str | None:
    value = headers.get(b"x-project-id")
    if value is None:
        value = headers.get(b"x-tenant-id")
    return None if value is None else value.decode("latin-1")
