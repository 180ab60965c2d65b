"""Between the parts of a queue that is moved, and what scripts tell of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import CANCELLED_KEPT
from zaqar_notify.storage.base.transfer import StoredCancellation, StoredKey, StoredMessage
from zaqar_notify.storage.ids import SALT_BYTES
from zaqar_notify.storage.redis.records import (
    Record,
    bytes_of,
    clear_size,
    packed,
    unpacked,
)
from zaqar_notify.storage.values import MILLISECOND

MovedRow: TypeAlias = tuple[str, int, int, str, msgspec.Raw, int]
"""As `records.Row`, and the ttl of the claim."""
KEPT_MS = CANCELLED_KEPT // MILLISECOND


def to_moved(row: MovedRow) -> StoredMessage:
    position, expires_at, held_until, state, raw, claim_ttl = row
    record = unpacked(bytes_of(raw))
    count, _, claim = state.partition(" ")
    is_claimed = bool(held_until and claim)
    return StoredMessage(
        position=int(position, 16),
        client=record.client,
        ttl=record.ttl,
        posted_at=record.posted_at,
        expires_at=expires_at,
        body=record.body,
        claim_count=int(count or 0),
        held_until=held_until or None,
        claim=claim if is_claimed else None,
        claim_ttl=claim_ttl if is_claimed else 0,
        moved_id=record.former_id,
        checksum=record.checksum,
        key_id=record.key_id,
    )


def record_of(ref: QueueRef, message: StoredMessage) -> bytes:
    return packed(
        Record(
            message.client,
            message.key_id,
            message.moved_id,
            clear_size(ref, message.body, message.key_id),
            message.ttl,
            message.posted_at,
            message.checksum,
            message.body,
        )
    )


def imported(message: StoredMessage) -> tuple[str, int, int, int, str, int]:
    """The row of a message for a script, beside its record."""
    return (
        hex_of(message.position),
        message.expires_at,
        message.held_until or 0,
        message.claim_count,
        message.claim or "",
        message.claim_ttl,
    )


def hex_of(position: int) -> str:
    return f"{position:016x}"


def to_keys(named: Sequence[str]) -> list[StoredKey]:
    """Remembered posts of digests, each followed by its value."""
    keys = []
    for digest, value in _pairs(named):
        expiry, fingerprint, first, count, salt = value.split(" ")
        keys.append(
            StoredKey(
                bytes.fromhex(digest),
                bytes.fromhex(fingerprint),
                int(first, 16),
                int(count),
                bytes.fromhex(salt),
                int(expiry),
            )
        )
    return keys


def imported_key(key: StoredKey) -> tuple[str, str, int]:
    value = (
        f"{key.expires_at} {key.fingerprint.hex()} {hex_of(key.first)} {key.count} {key.salt.hex()}"
    )
    return key.digest.hex(), value, key.expires_at


def to_cancelled(named: Sequence[str]) -> list[StoredCancellation]:
    """Notes of what was cancelled, each followed by the instant at which it was to be due, and by that at which its
    life ended, if it is one."""
    return [
        StoredCancellation(what, int(float(ended or until)), int(float(until)) + KEPT_MS)
        for what, until, ended in zip(named[::3], named[1::3], named[2::3], strict=True)
    ]


def imported_cancellation(one: StoredCancellation) -> tuple[str, int, int | bool]:
    """The note for a script."""
    is_life = len(one.what) == 2 * SALT_BYTES
    return one.what, one.expires_at - KEPT_MS, one.at if is_life else False


def _pairs(named: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(named[::2], named[1::2], strict=True)
