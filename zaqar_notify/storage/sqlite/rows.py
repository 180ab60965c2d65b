"""Between rows and models: instants, ids, and one pair of functions per model."""

from __future__ import annotations

import json
import re
from datetime import datetime

import msgspec

from zaqar_notify.errors import SubscriptionLocked
from zaqar_notify.models import DisabledReason, KeptSecret, QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage import ids
from zaqar_notify.storage.sealed_subscriptions import StoredSubscriber, opened, sealed
from zaqar_notify.storage.sqlite.database import Row
from zaqar_notify.storage.values import from_ms, to_ms

_FORMER_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
FORMER_END = 1 << 56
"""Positions that versions 1 and 2 of the schema gave are below it, those of any millisecond since 1970 above."""


def to_id(position: int, salt: bytes) -> str:
    """The id of the message that a queue of this salt has, or had, at a position."""
    return f"{position:016x}" if position < FORMER_END else ids.to_id(position, salt)


def to_position(message_id: str) -> int | None:
    """The position in an id or marker; None when it is none of ours."""
    if not _FORMER_ID.fullmatch(message_id):
        return ids.to_position(message_id)
    position = int(message_id, 16)
    return position if position < FORMER_END else None


def own_position(salt: bytes, message_id: str) -> int | None:
    """The position that an id has in the queue of this salt, if it is one of its ids."""
    position = to_position(message_id)
    if position is None or position < FORMER_END or ids.is_of(salt, message_id):
        return position
    return None


SUBSCRIPTION_COLUMNS = (
    "project, queue, id, subscriber, ttl, options, created_at, expires_at, confirmed, disabled_at, "
    "secret_generation, secret_rotations, replay_id, disabled_reason, disabled_detail, failing_since, "
    "kept_secrets, key_id"
)


def from_subscription(subscription: Subscription, keys: Keyring) -> tuple[object, ...]:
    """In the order of SUBSCRIPTION_COLUMNS."""
    stored = sealed(subscription, keys)
    return (
        subscription.queue.project,
        subscription.queue.name,
        subscription.id,
        stored.subscriber,
        subscription.ttl,
        stored.options,
        to_ms(subscription.created_at),
        to_ms(subscription.expires_at),
        subscription.confirmed,
        optional_ms(subscription.disabled_at),
        subscription.secret_generation,
        json.dumps([to_ms(at) for at in subscription.secret_rotations]),
        subscription.replay_id,
        subscription.disabled_reason,
        subscription.disabled_detail,
        optional_ms(subscription.failing_since),
        json.dumps(
            [(kept.generation, to_ms(kept.until), kept.given) for kept in subscription.kept_secrets]
        ),
        stored.key_id,
    )


def to_subscription(row: Row, keys: Keyring) -> Subscription:
    """The subscription of a row.

    Raises:
        SubscriptionLocked: It can't be decrypted.
    """
    ref = QueueRef(row[0], row[1])
    subscriber, options = opened(ref, StoredSubscriber(row[3], row[5], row[-1]), keys)
    return Subscription(
        queue=ref,
        id=row[2],
        subscriber=subscriber,
        ttl=row[4],
        options=options,
        created_at=from_ms(row[6]),
        expires_at=from_ms(row[7]),
        confirmed=bool(row[8]),
        disabled_at=optional_instant(row[9]),
        secret_generation=row[10],
        secret_rotations=tuple(map(from_ms, msgspec.json.decode(row[11]))),
        replay_id=row[12],
        disabled_reason=None if row[13] is None else DisabledReason(row[13]),
        disabled_detail=row[14],
        failing_since=optional_instant(row[15]),
        kept_secrets=tuple(
            KeptSecret(number, from_ms(until), given)
            for number, until, given in msgspec.json.decode(row[16])
        ),
    )


def optional_ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)


def optional_instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


def to_gone(row: Row, keys: Keyring) -> Subscription:
    """The subscription of a row that is about to be removed; one that can't be decrypted is without its options,
    and has its subscriber as it is stored."""
    try:
        return to_subscription(row, keys)
    except SubscriptionLocked:
        return to_subscription((*row[:5], "{}", *row[6:-1], None), keys)
