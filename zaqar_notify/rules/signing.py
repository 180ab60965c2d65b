"""Signatures of pre-signed URLs, in Zaqar's own form.

Every comparison with something that a client sent takes constant time.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from zaqar_notify.errors import SignatureRefused

# Zaqar signs a backslash and the letter n, not a line feed; signatures must outlive a migration.
_SEPARATOR = r"\n"
_GENERATION_LABEL = "zaqar-notify share generation"
_GENERATION = re.compile("[1-9a-f][0-9a-f]{0,15}")
_EXPIRES_FORMAT = "%Y-%m-%dT%H:%M:%S"


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
