"""Signatures of webhooks, as Standard Webhooks has them: with a secret that the receiver knows, or with a private key.

Secrets and keys are derived from the master key, so that none is stored, and all processes have the same. Without a
master key there is none: one that an attacker can compute would be worse than no signature.

Every comparison with something that a client sent takes constant time.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from zaqar_notify.errors import CannotDecrypt, ValidationFailed
from zaqar_notify.models import KeptSecret, Subscription
from zaqar_notify.rules.encryption import Keyring, Kind
from zaqar_notify.rules.formats import SIGNATURE_KEY, Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET_PREFIX = "whsec_"  # noqa: S105 - marks a secret's kind, is none
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"

# Part of the signed text: another label would change the secret of every subscription there is.
_SECRET_LABEL = "zaqar-notify webhook secret"  # noqa: S105
_KEY_LABEL = "zaqar-notify webhook ed25519 key"
_GIVEN_LABEL = "zaqar-notify given webhook secrets"

LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64
"""Of a secret that a client gives, as Standard Webhooks has them."""
_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)

MAX_FORMER_SECRETS = 10
"""How many sign beside the current one: each makes every delivery's head 48 bytes longer, or 92."""

MAX_OVERLAP_SECONDS = 30 * 86400


def sign_webhook(secrets: Sequence[str], message_id: str, timestamp: int, payload: bytes) -> str:
    """The `webhook-signature` header: one signature for each secret, in their order.

    Args:
        secrets: The current one first; `whsec_…` makes `v1,<base64>`, and `whsk_…`, a private key, `v1a,<base64>`.
        message_id: The `webhook-id` header; holds no ".".
        timestamp: The `webhook-timestamp` header: Unix seconds of this attempt.
        payload: The request's body, the very bytes sent.

    Source: Standard Webhooks 1.0.0, "Signature scheme".
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, payload)
    if secrets and secrets[0].startswith(PRIVATE_PREFIX):
        return " ".join([f"v1a,{_encoded(_private(key).sign(signed))}" for key in secrets])
    digests = [hmac.digest(_key(secret), signed, "sha256") for secret in secrets]
    return " ".join([f"v1,{b64encode(digest).decode()}" for digest in digests])


def is_signed(
    secret: str, signatures: str, message_id: str, timestamp: int, payload: bytes
) -> bool:
    """Whether one of the `webhook-signature` header's signatures is made with `secret`, or with the private key of the
    public key `whpk_…`.

    It does not look at how old `timestamp` is; a receiver that fears replays does.
    """
    if secret.startswith(PUBLIC_PREFIX):
        signed = b"%s.%d.%s" % (message_id.encode(), timestamp, payload)
        return any(_is_signed_by(secret, one, signed) for one in signatures.split())
    expected = sign_webhook([secret], message_id, timestamp, payload).encode()
    return any(hmac.compare_digest(one.encode(), expected) for one in signatures.split())


def webhook_secrets(
    master: str, subscription: Subscription, *, now: datetime, overlap_seconds: int
) -> list[str]:
    """The secrets, or the private keys, that sign this subscription's webhooks at `now`, the current one first.

    Args:
        overlap_seconds: The overlap of rotations that earlier releases made.
    """
    if not master:
        return []
    is_private = subscription.options.get(SIGNATURE_KEY) == Signature.ED25519
    make = _private_key if is_private else _secret
    return _of_live(make, master, subscription, now, overlap_seconds)


def shared_secrets(
    master: str, subscription: Subscription, *, now: datetime, overlap_seconds: int
) -> list[str]:
    """As `webhook_secrets`: the secrets of a signature with HMAC, whether it is chosen or not."""
    return _of_live(_secret, master, subscription, now, overlap_seconds) if master else []


def public_keys(
    master: str, subscription: Subscription, *, now: datetime, overlap_seconds: int
) -> list[str]:
    """As `webhook_secrets`: the public keys of a signature with ed25519, whether it is chosen or not."""
    if not master:
        return []
    keys = _of_live(_private_key, master, subscription, now, overlap_seconds)
    return [PUBLIC_PREFIX + _encoded(_private(key).public_key().public_bytes_raw()) for key in keys]


def check_secret(secret: object) -> str:
    """A secret that a client gives.

    Raises:
        ValidationFailed: It has another form than Standard Webhooks' secrets.
    """
    try:
        text = secret if isinstance(secret, str) else ""
        size = len(b64decode(text.removeprefix(SECRET_PREFIX), validate=True))
    except ValueError:
        size = 0
    if not text.startswith(SECRET_PREFIX) or not LEAST_SECRET_BYTES <= size <= MOST_SECRET_BYTES:
        raise ValidationFailed(
            f"secret must be {SECRET_PREFIX} and the base64 of {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES} bytes"
        )
    return text


def sealed(master: str, project: str, secret: str) -> str:
    """A secret that a client gave, encrypted under a key that is derived from the master key."""
    return _encoded(_keyring(master).seal(Kind.SIGNING_KEY, project, secret.encode()))


def rotate(
    subscription: Subscription,
    *,
    now: datetime,
    overlap_seconds: int,
    of_earlier_seconds: int,
    given: str = "",
) -> Subscription:
    """The subscription with a new secret and a new key; the present ones sign for `overlap_seconds` more.

    Args:
        of_earlier_seconds: The overlap of rotations that earlier releases made.
        given: The new secret, as `sealed` makes it; empty: it is derived.

    Raises:
        ValidationFailed: Its deliveries have as many signatures as they may have.
    """
    live = _live(subscription, now, of_earlier_seconds)
    if len(live) >= MAX_FORMER_SECRETS and overlap_seconds:
        ends_at = min(former.until for former in live)
        raise ValidationFailed(
            f"{MAX_FORMER_SECRETS} former secrets still sign, as many as may; the first of them ends "
            f"at {ends_at:%Y-%m-%dT%H:%M:%SZ}. Rotate again after that, or with overlap_seconds 0"
        )
    generation = subscription.secret_generation
    kept = list(live)
    if overlap_seconds:
        until = now + timedelta(seconds=overlap_seconds)
        kept.append(KeptSecret(generation, until, _given(subscription).get(generation, "")))
    if given:
        kept.append(KeptSecret(generation + 1, _FOR_EVER, given))
    return msgspec.structs.replace(
        subscription,
        secret_generation=generation + 1,
        secret_rotations=(),
        kept_secrets=tuple(kept),
    )


def _given(subscription: Subscription) -> dict[int, str]:
    """The secrets that a client gave, by their numbers."""
    return {kept.generation: kept.given for kept in subscription.kept_secrets if kept.given}


def _live(
    subscription: Subscription, now: datetime, of_earlier_seconds: int
) -> tuple[KeptSecret, ...]:
    """The former secrets that still sign at `now`, in order."""
    overlap = timedelta(seconds=of_earlier_seconds)
    rotations = subscription.secret_rotations
    first = subscription.secret_generation - len(rotations)
    of_earlier = [KeptSecret(first + step, at + overlap) for step, at in enumerate(rotations)]
    former = (*of_earlier, *subscription.kept_secrets)
    numbers = range(subscription.secret_generation)
    return tuple(each for each in former if now < each.until and each.generation in numbers)


def _of_live(
    make: Callable[[str, str, str, int], str],
    master: str,
    subscription: Subscription,
    now: datetime,
    of_earlier_seconds: int,
) -> list[str]:
    """The secrets or keys of the generations that sign at `now`, the current one first: given, or derived."""
    generations = [subscription.secret_generation]
    if subscription.kept_secrets or subscription.secret_rotations:
        live = _live(subscription, now, of_earlier_seconds)
        generations += [former.generation for former in reversed(live)]
    project = subscription.queue.project
    given = _given(subscription) if subscription.kept_secrets and make is _secret else {}
    return [
        _opened(master, project, given.get(number, ""))
        or make(master, project, subscription.id, number)
        for number in generations
    ]


def _is_signed_by(public_key: str, signature: str, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    version, _, encoded = signature.partition(",")
    try:
        key = Ed25519PublicKey.from_public_bytes(b64decode(public_key.removeprefix(PUBLIC_PREFIX)))
        key.verify(b64decode(encoded), signed)
    except (InvalidSignature, ValueError):
        return False
    return version == "v1a"


@lru_cache(maxsize=16)
def _keyring(master: str) -> Keyring:
    key = hmac.digest(master.encode(), _GIVEN_LABEL.encode(), "sha256")
    return Keyring({"webhook-secret": key})


@lru_cache(maxsize=4096)
def _opened(master: str, project: str, given: str) -> str:
    """The secret that a client gave; empty: there is none, or another master key encrypted it."""
    try:
        envelope = b64decode(given)
        return _keyring(master).open(Kind.SIGNING_KEY, project, envelope).decode() if given else ""
    except CannotDecrypt:
        return ""


@lru_cache(maxsize=4096)
def _key(secret: str) -> bytes:
    return b64decode(secret.removeprefix(SECRET_PREFIX))


@lru_cache(maxsize=1024)
def _private(key: str) -> Ed25519PrivateKey:
    # Only a process that needs it pays for the library.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(b64decode(key.removeprefix(PRIVATE_PREFIX)))


@lru_cache(maxsize=4096)
def _secret(master: str, project: str, subscription_id: str, generation: int) -> str:
    derived = _derived(_SECRET_LABEL, master, project, subscription_id, generation)
    return SECRET_PREFIX + _encoded(derived)


@lru_cache(maxsize=4096)
def _private_key(master: str, project: str, subscription_id: str, generation: int) -> str:
    derived = _derived(_KEY_LABEL, master, project, subscription_id, generation)
    return PRIVATE_PREFIX + _encoded(derived)


def _derived(label: str, master: str, project: str, subscription_id: str, generation: int) -> bytes:
    # A JSON array keeps its parts apart; they may contain any character.
    parts = json.dumps([label, project, subscription_id, generation])
    return hmac.digest(master.encode(), parts.encode(), "sha256")


def _encoded(key: bytes) -> str:
    return b64encode(key).decode()
