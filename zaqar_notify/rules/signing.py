"""Signatures: on webhooks (Standard Webhooks), and in pre-signed URLs (Zaqar's own form).

Every comparison with something that a client sent takes constant time.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from zaqar_notify.errors import SignatureRefused, ValidationFailed
from zaqar_notify.models import Subscription

SECRET_PREFIX = "whsec_"  # noqa: S105 - marks a secret's kind, is none

# Part of the signed text: another label would change the secret of every subscription there is.
_SECRET_LABEL = "zaqar-notify webhook secret"  # noqa: S105

# Zaqar signs a backslash and the letter n, not a line feed; signatures must outlive a migration.
_SEPARATOR = r"\n"
_GENERATION_LABEL = "zaqar-notify share generation"
_GENERATION = re.compile("[1-9a-f][0-9a-f]{0,15}")
_EXPIRES_FORMAT = "%Y-%m-%dT%H:%M:%S"

MAX_FORMER_SECRETS = 10
"""How many sign beside the current one: each makes every delivery's head 48 bytes longer."""


def sign_webhook(secrets: Sequence[str], message_id: str, timestamp: int, payload: bytes) -> str:
    """The `webhook-signature` header: one `v1,<base64>` per secret, in their order.

    Args:
        secrets: `whsec_<base64>`, the current one first.
        message_id: The `webhook-id` header; holds no ".".
        timestamp: The `webhook-timestamp` header: Unix seconds of this attempt.
        payload: The request's body, the very bytes sent.

    Source: Standard Webhooks 1.0.0, "Signature scheme".
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, payload)
    digests = [hmac.digest(_key(secret), signed, "sha256") for secret in secrets]
    return " ".join([f"v1,{b64encode(digest).decode()}" for digest in digests])


def is_signed(
    secret: str, signatures: str, message_id: str, timestamp: int, payload: bytes
) -> bool:
    """Whether one of the `webhook-signature` header's signatures is made with `secret`.

    It does not look at how old `timestamp` is; a receiver that fears replays does.
    """
    expected = sign_webhook([secret], message_id, timestamp, payload).encode()
    return any(hmac.compare_digest(one.encode(), expected) for one in signatures.split())


def webhook_secrets(
    master: str, subscription: Subscription, *, now: datetime, overlap_seconds: int
) -> list[str]:
    """The secrets that sign this subscription's webhooks at `now`, the current one first.

    They are derived from the master key, so none is stored. For `overlap_seconds` after each rotation
    the one of before signs too. Without a master key there is none: a secret that an attacker can
    compute would be worse than no signature.
    """
    if not master:
        return []
    generation = subscription.secret_generation
    live = _live_rotations(subscription, now, overlap_seconds)
    generations = range(generation, max(generation - len(live), 0) - 1, -1)
    project = subscription.queue.project
    return [_secret(master, project, subscription.id, number) for number in generations]


def rotate(subscription: Subscription, *, now: datetime, overlap_seconds: int) -> Subscription:
    """The subscription with a new signing secret.

    Raises:
        ValidationFailed: Its deliveries have as many signatures as they may have.
    """
    live = _live_rotations(subscription, now, overlap_seconds)
    if len(live) >= MAX_FORMER_SECRETS:
        ends_at = live[0] + timedelta(seconds=overlap_seconds)
        raise ValidationFailed(
            f"{MAX_FORMER_SECRETS} former secrets still sign, as many as may; the first of them ends "
            f"at {ends_at:%Y-%m-%dT%H:%M:%SZ}. Rotate again after that"
        )
    return msgspec.structs.replace(
        subscription,
        secret_generation=subscription.secret_generation + 1,
        secret_rotations=(*live, now),
    )


def _live_rotations(
    subscription: Subscription, now: datetime, overlap_seconds: int
) -> tuple[datetime, ...]:
    """The rotations with former secrets that still sign at `now`, in order."""
    overlap = timedelta(seconds=overlap_seconds)
    return tuple(at for at in subscription.secret_rotations if now < at + overlap)


class Signed(msgspec.Struct, frozen=True):
    """The coverage of a pre-signed URL, and its generation among those of its queue."""

    paths: tuple[str, ...]
    expires: datetime
    generation: int

    def is_only_for(self, path: str) -> bool:
        """Whether it covers only this path and paths below it."""
        return all(_covers([path], signed) for signed in self.paths)


def sign_url(
    secret: str,
    *,
    paths: Sequence[str],
    methods: Sequence[str],
    project: str,
    expires: datetime,
    generation: int = 0,
) -> str:
    """The signature of a pre-signed URL, lower-case hex.

    Args:
        paths: Full request paths; each admits itself and the paths below it.
        expires: Aware instant; a fraction of a second is dropped.
        generation: Of the queue's pre-signed URLs. From the first revocation on it is not 0: it stands before
            the signature, and each has a key of its own.

    Source: Zaqar API v2, "Pre-signed queue"; byte-identical to Zaqar's until the first revocation.
    """
    signed = _SEPARATOR.join(
        (",".join(sorted(paths)), ",".join(sorted(methods)), project, wire_instant(expires))
    )
    if not generation:
        return hmac.digest(secret.encode(), signed.encode(), "sha256").hex()
    label = f"{_GENERATION_LABEL} {generation}"
    key = hmac.digest(secret.encode(), label.encode(), "sha256")
    return f"{generation:x}.{hmac.digest(key, signed.encode(), 'sha256').hex()}"


def verify_url(
    secrets: Sequence[str],
    *,
    signature: str,
    paths_header: str,
    methods_header: str,
    expires_header: str,
    project: str,
    method: str,
    path: str,
    now: datetime,
    prefix: str = "",
) -> Signed:
    """The coverage of a request's pre-signed headers; an absent header is "".

    Args:
        secrets: Any of them may have signed.
        path: The request's path, as routed.
        prefix: Clients may have this before the path; the signature may cover it or not.

    Raises:
        SignatureRefused: Expired, another path, method or project, or a wrong signature. It does
            not say which.
    """
    # Without a separator in the first two fields the signed string reads in one way only, so a
    # project with a crafted name can't pass its signature off as another project's.
    if _SEPARATOR in paths_header or _SEPARATOR in methods_header:
        raise SignatureRefused
    paths = paths_header.split(",")
    methods = methods_header.split(",")
    try:
        expires = read_instant(expires_header)
    except ValueError as error:
        raise SignatureRefused from error
    if expires <= now or method not in methods:
        raise SignatureRefused
    if not (_covers(paths, path) or _covers(paths, prefix + path)):
        raise SignatureRefused
    given = signature.encode()
    generation = _generation(signature)
    signatures = [
        sign_url(
            secret,
            paths=paths,
            methods=methods,
            project=project,
            expires=expires,
            generation=generation,
        ).encode()
        for secret in secrets
    ]
    if not any(hmac.compare_digest(given, expected) for expected in signatures):
        raise SignatureRefused
    return Signed(tuple(paths), expires, generation)


def _generation(signature: str) -> int:
    """The generation that the signature claims. Raises SignatureRefused: it is no number."""
    claimed, dot, _ = signature.partition(".")
    if not dot:
        return 0
    if not _GENERATION.fullmatch(claimed):
        raise SignatureRefused
    return int(claimed, 16)


@lru_cache(maxsize=4096)
def _key(secret: str) -> bytes:
    return b64decode(secret.removeprefix(SECRET_PREFIX))


@lru_cache(maxsize=4096)
def _secret(master: str, project: str, subscription_id: str, generation: int) -> str:
    # A JSON array keeps its parts apart; they may contain any character.
    parts = json.dumps([_SECRET_LABEL, project, subscription_id, generation])
    key = hmac.digest(master.encode(), parts.encode(), "sha256")
    return SECRET_PREFIX + b64encode(key).decode()


def _covers(paths: Sequence[str], path: str) -> bool:
    return any(path == signed or path.startswith(f"{signed}/") for signed in paths)


def wire_instant(instant: datetime) -> str:
    """As `URL-Expires` has it: UTC, without zone and fraction."""
    return instant.astimezone(UTC).strftime(_EXPIRES_FORMAT)


def read_instant(text: str) -> datetime:
    """Read ISO 8601; no zone means UTC. Raises ValueError."""
    instant = datetime.fromisoformat(text).replace(microsecond=0)
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the years 1 to 9999") from error
