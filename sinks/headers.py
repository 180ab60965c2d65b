"""The headers that a subscription may add to its webhooks (`post_headers`)."""

from __future__ import annotations

import re

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.lines import ONE_LINE, has_control_characters
from zaqar_notify.rules.unread import Warn

MAX_CHARACTERS = 8192
"""Of all names and values together."""
MAX_HEADERS = 256

# RFC 9110, "token".
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_is_token = re.compile(_NAME).fullmatch

SCHEMA: JsonObject = {
    "type": ["object", "null"],
    "must": "be an object of strings",
    "propertyNames": {"pattern": rf"^{_NAME}\Z", "must": "have names of HTTP headers only"},
    "additionalProperties": {
        "type": "string",
        "pattern": ONE_LINE,
        "must": "be a string without line breaks and control characters",
    },
}

_IDENTITY_HEADERS = re.compile(
    # Zaqar's own, and those of pre-signed URLs.
    r"client-id|url-.*"
    # Those of keystonemiddleware for the service behind it.
    r"|x-(project|tenant|domain)(-id|-name|-domain.*)?|x-(user|role|service|identity|is-admin).*"
    r"|openstack-system-scope"
    # Those of proxies about a client that they have checked, and about its request.
    r"|forwarded|x-forwarded.*|x-real-ip|x-client-(cert|dn|ip|verify).*|(x-)?ssl-client.*"
    r"|x-original-.*|x-rewrite-.*|(x-)?remote-.*|x-auth-request-.*|x-authenticated-.*|x-webauth-.*"
    r"|x-amzn-oidc-.*|x-ms-client-principal.*|x-goog-(authenticated|iap).*|cf-access-authenticated.*"
    r"|tailscale-user.*|x-consumer-.*|x-credential-identifier|x-anonymous-consumer|x-vouch-.*"
    r"|(true|x-cluster|fastly)-client-ip|cf-connecting-ip.*"
)
"""Headers that tell a service behind a proxy the user, the project or the address of a request. A subscriber
may be such a service, and believe them."""

_BESIDE_A_TOKEN = frozenset({"client-id", "x-project-id"})
"""Headers that a message to a queue of Zaqar needs. The project is the token's, whatever they say."""

_KEPT = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "zaqar-attempt",
        "zaqar-attributes",
        "zaqar-hops",
        "zaqar-installation",
        "zaqar-message-id",
        "zaqar-queue",
        "zaqar-subscription-id",
    }
)
"""Headers that `post_headers` may name and cannot set: they frame or route the request, or are facts of ours."""


def check_length(headers: object) -> None:
    """Before each is looked at: the schema takes its time over thousands of them."""
    if not isinstance(headers, dict):
        return
    characters = sum(
        len(name) + len(text) if isinstance(text, str) else len(name)
        for name, text in headers.items()
    )
    if characters > MAX_CHARACTERS:
        raise ValidationFailed(
            f"options: post_headers have {characters} characters; "
            f"at most {MAX_CHARACTERS} are allowed"
        )
    if len(headers) > MAX_HEADERS:
        raise ValidationFailed(
            f"options: post_headers are {len(headers)}; at most {MAX_HEADERS} are allowed"
        )


def check_identity(headers: object, *, has_token: bool = False) -> None:
    """Refuse headers that say who asks.

    Args:
        has_token: A token of Keystone says it, and Zaqar's own headers beside it deceive no service.
    """
    for name in headers if isinstance(headers, dict) else ():
        if _says_who_asks(name, has_token=has_token):
            raise ValidationFailed(
                f"options: post_headers must not have {name[:80]!r}: services behind a proxy read "
                "the caller's identity from it. To authenticate, send Authorization or X-Auth-Token"
            )


def warn_of_kept(headers: object, warn: Warn) -> None:
    """Say which of the headers are the service's to set."""
    for name in headers if isinstance(headers, dict) else ():
        if is_kept(name):
            warn(f"options: post_headers {name} has no effect: it is the service's to set")


def may_set(name: object, value: object, *, has_token: bool = False) -> bool:
    """Whether a header goes out. A stored header may be older than a rule against it.

    Args:
        has_token: A token of Keystone goes out in `X-Auth-Token`, which no other header may be.
    """
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and _is_token(name) is not None
        and not is_kept(name)
        and not _says_who_asks(name, has_token=has_token)
        and not (has_token and _key(name) == "x-auth-token")
        and not has_control_characters(value)
    )


def is_kept(name: str) -> bool:
    """Whether the service alone sets a header."""
    return _key(name) in _KEPT


def _says_who_asks(name: str, *, has_token: bool) -> bool:
    key = _key(name)
    if has_token and key in _BESIDE_A_TOKEN:
        return False
    return _IDENTITY_HEADERS.fullmatch(key) is not None


def _key(name: str) -> str:
    """A header's name as servers may read it: CGI and WSGI know no case and only one separator."""
    return re.sub(r"[^0-9a-z]", "-", name.lower())
