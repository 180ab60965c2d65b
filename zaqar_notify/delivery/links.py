"""Links with a token, for people without an account here: one confirms a subscription, another ends its mails.

A token names the purpose, the subscription and the subscriber that it was made for, and the instant at which it expires,
under a signature. So it does nothing else, nothing for a later subscriber of the same subscription, and needs no
record in a store.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from enum import StrEnum

import msgspec

from zaqar_notify.errors import LinkNotValid
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.settings import Settings

MAX_TOKEN_CHARACTERS = 2048
"""The longest names of project and queue make 1,000."""

_LABEL = b"zaqar-notify link: "
_DIGEST_BYTES = 16


class Purpose(StrEnum):
    """What a link is for; its path ends with it."""

    CONFIRM = "confirm"
    UNSUBSCRIBE = "unsubscribe"

    @property
    def path(self) -> str:
        """Below the public URL."""
        return f"/v2/{self}"


class Link(msgspec.Struct, frozen=True, array_like=True):
    """The content of a token. `expires` is in Unix seconds; 0: it counts for as long as the subscription lives."""

    project: str
    queue: str
    subscription_id: str
    subscriber: bytes
    """A digest."""
    expires: int

    @property
    def ref(self) -> QueueRef:
        return QueueRef(self.project, self.queue)

    def check(self, subscription: Subscription) -> None:
        """Raises LinkNotValid: The subscription has another subscriber now."""
        if not hmac.compare_digest(self.subscriber, _digest(subscription)):
            raise LinkNotValid


def link_to(
    purpose: Purpose,
    subscription: Subscription,
    settings: Settings,
    *,
    expires_at: datetime | None = None,
) -> str:
    """The link; "" where the settings have no public URL, or no key that signs it.

    Args:
        expires_at: By the host's clock; None: the link lives as long as the subscription.
    """
    if not (settings.public_url and settings.signed_url_secrets):
        return ""
    token = make_token(purpose, subscription, settings, expires_at=expires_at)
    return f"{settings.public_url.rstrip('/')}{purpose.path}?token={token}"


def make_token(
    purpose: Purpose,
    subscription: Subscription,
    settings: Settings,
    *,
    expires_at: datetime | None = None,
) -> str:
    """A token, signed by the first of the `signed_url_secrets`; there must be one."""
    ref = subscription.queue
    expires = 0 if expires_at is None else int(expires_at.timestamp())
    link = Link(ref.project, ref.name, subscription.id, _digest(subscription), expires)
    content = msgspec.msgpack.encode(link)
    secret = settings.signed_url_secrets[0].get_secret_value()
    return f"{_encode(content)}.{_encode(_signature(secret, purpose, content))}"


def read_token(token: str, purpose: Purpose, settings: Settings, *, now: datetime) -> Link:
    """The content of a token that was made for the purpose, by any of the `signed_url_secrets`.

    Args:
        now: By the host's clock.

    Raises:
        LinkNotValid: It is none, was made for something else, or has expired. It does not say which.
    """
    content, signature = (_decode(part) for part in _parts(token))
    signatures = [
        _signature(secret.get_secret_value(), purpose, content)
        for secret in settings.signed_url_secrets
    ]
    if not any(hmac.compare_digest(signature, expected) for expected in signatures):
        raise LinkNotValid
    try:
        link = _read_link(content)
    except msgspec.DecodeError as error:  # Of a later release.
        raise LinkNotValid from error
    if link.expires and link.expires <= now.timestamp():
        raise LinkNotValid
    return link


_read_link = msgspec.msgpack.Decoder(Link).decode


def _parts(token: str) -> tuple[str, str]:
    content, dot, signature = token.partition(".")
    if not dot or len(token) > MAX_TOKEN_CHARACTERS:
        raise LinkNotValid
    return content, signature


def _signature(secret: str, purpose: Purpose, content: bytes) -> bytes:
    key = hmac.digest(secret.encode(), _LABEL + purpose.encode(), "sha256")
    return hmac.digest(key, content, "sha256")


def _digest(subscription: Subscription) -> bytes:
    subscriber = subscription.subscriber.encode(errors="replace")
    return hashlib.sha256(subscriber).digest()[:_DIGEST_BYTES]


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise LinkNotValid from error
