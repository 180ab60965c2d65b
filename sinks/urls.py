"""The URL of a webhook. The check of a subscriber and the sink read it by the same function.

The part behind the host is sent byte for byte, because a query may be signed. Only characters that are illegal
in a request line are escaped.

Source: RFC 3986; RFC 9112, 3.2.
"""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import quote

import msgspec
from yarl import URL

from sinks.addresses import is_address
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import undisclosed
from zaqar_notify.rules.lines import has_control_characters

MAX_HOST_CHARACTERS = 253

_PARTS = re.compile(r"[^:/?#]+://([^/?#]*)([^#]*)", re.DOTALL)
# Brackets are illegal in a query too, but nothing escapes them: they are left to the receiver.
_ILLEGAL = re.compile(r"%(?![0-9A-Fa-f]{2})|[^%A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]")
# As name servers have it, underscores included. Some libraries take a name that ends in a number for an
# address, in one of the old forms that no name server knows: 127.1, 0x7f000001.
_HOST_NAME = re.compile(
    r"(?:[0-9A-Za-z_-]{1,63}\.)*(?!(?:[0-9]+|0[xX][0-9A-Fa-f]*)$)[0-9A-Za-z_-]{1,63}"
)


class WebUrl(msgspec.Struct, frozen=True):
    """`host` is a name as name servers have it, or an address without brackets."""

    is_tls: bool
    host: str
    port: int
    host_header: str
    target: str
    """Path and query, as they go on the request line."""
    authorization: str
    """The header's value that the URL's user name and password make; empty without them."""

    __repr__ = undisclosed


def read_url(text: str) -> WebUrl:
    """Read an `http:` or `https:` URL.

    Raises:
        ValidationFailed: It can't be called; the sentence says why.
    """
    # Parsers disagree about blanks and backslashes: one takes a part for the host that another skips.
    if " " in text or "\\" in text or has_control_characters(text):
        raise ValidationFailed(
            "subscriber must not contain blanks, backslashes or control characters; escape them"
        )
    try:
        url = URL(text)
        port = url.port
    except (ValueError, IndexError) as error:  # The latter is yarl's about brackets.
        raise ValidationFailed("subscriber: its host or port can't be read") from error
    parts = _PARTS.match(text)
    host = url.raw_host
    if not host or not parts:
        raise ValidationFailed("subscriber must name a host, such as https://example.org/hook")
    if not port:
        raise ValidationFailed("subscriber: the port must be from 1 to 65535")
    in_brackets = "[" in parts[1]
    if not (_is_plain_address(host) if in_brackets else is_address(host) or _is_name(host)):
        raise ValidationFailed(
            f"subscriber: {host[:80]!r} is neither the name of a host nor an address such as "
            "192.0.2.1 or [2001:db8::1]"
        )
    return WebUrl(
        url.scheme == "https",
        host,
        port,
        url.host_port_subcomponent or "",
        _target(parts[2]),
        _authorization(url),
    )


def _is_plain_address(host: str) -> bool:
    """Without a zone (`fe80::1%eth0`), which means something on one host only."""
    return is_address(host) and "%" not in host


def _is_name(host: str) -> bool:
    name = host.removesuffix(".")
    return len(name) <= MAX_HOST_CHARACTERS and _HOST_NAME.fullmatch(name) is not None


def _target(behind_the_host: str) -> str:
    target = _ILLEGAL.sub(lambda found: quote(found[0], safe=""), behind_the_host)
    return target if target.startswith("/") else f"/{target}"


def _authorization(url: URL) -> str:
    if url.user is None and url.password is None:
        return ""
    if ":" in (url.user or ""):
        raise ValidationFailed("subscriber: its user name has a colon, so it can't be called")
    credentials = f"{url.user or ''}:{url.password or ''}".encode()
    return f"Basic {b64encode(credentials).decode()}"
