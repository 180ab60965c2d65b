"""Between rows and models: instants, ids, and one pair of functions per model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from zaqar_notify.models import Document, Message, QueueRef, Subscription
from zaqar_notify.storage.sqlite.database import Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_LAST_POSITION = (1 << 63) - 1


def to_ms(instant: datetime) -> int:
    return (instant - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def to_id(position: int) -> str:
    """A message's id is the position it was posted at, as 16 hex digits."""
    return f"{position:016x}"


def to_position(message_id: str) -> int | None:
    """The position that an id names, or None for what is no id of ours."""
    if not _ID.fullmatch(message_id):
        return None
    position = int(message_id, 16)
    return position if position <= _LAST_POSITION else None


def to_positions(ids: Iterable[str]) -> list[int]:
    positions = (to_position(message_id) for message_id in ids)
    return [position for position in positions if position is not None]


MESSAGE_COLUMNS = (
    "m.position, m.moved_id, m.ttl, m.posted_at, m.expires_at, m.held_until, m.claim, m.claim_count, "
    "m.checksum, m.client, b.body"
)
"""What `to_message` reads, of `messages m` and `bodies b`."""

POSITION, MOVED_ID, TTL, POSTED_AT, EXPIRES_AT = 0, 1, 2, 3, 4
CLAIM_COUNT, CHECKSUM, CLIENT, BODY = 7, 8, 9, 10


def to_message(row: Row, now: int) -> Message:
    position, moved_id, ttl, posted_at, expires_at, held_until, claim, count, checksum, _, body = (
        row
    )
    return Message(
        id=to_id(position if moved_id is None else moved_id),
        body=body,
        ttl=ttl,
        posted_at=from_ms(posted_at),
        expires_at=from_ms(expires_at),
        claim_id=claim if held_until is not None and held_until > now else None,
        claim_count=count,
        checksum=checksum,
    )


def to_claimed_message(row: Row, claim_id: str, kept_until: int) -> Message:
    """The message as it is once the claim holds it, of a row that was free."""
    position, moved_id, ttl, posted_at, expires_at, _, _, count, checksum, _, body = row
    return Message(
        id=to_id(position if moved_id is None else moved_id),
        body=body,
        ttl=ttl,
        posted_at=from_ms(posted_at),
        expires_at=from_ms(max(expires_at, kept_until)),
        claim_id=claim_id,
        claim_count=count + 1,
        checksum=checksum,
    )


def to_json(document: Document) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Document:
    document: Document = json.loads(text)
    return document


SUBSCRIPTION_COLUMNS = (
    "project, queue, id, subscriber, ttl, options, created_at, expires_at, confirmed, disabled_at, "
    "secret_generation, secret_rotations"
)


def from_subscription(subscription: Subscription) -> tuple[object, ...]:
    """In the order of SUBSCRIPTION_COLUMNS."""
    return (
        subscription.queue.project,
        subscription.queue.name,
        subscription.id,
        subscription.subscriber,
        subscription.ttl,
        to_json(subscription.options),
        to_ms(subscription.created_at),
        to_ms(subscription.expires_at),
        subscription.confirmed,
        _optional_ms(subscription.disabled_at),
        subscription.secret_generation,
        json.dumps([to_ms(at) for at in subscription.secret_rotations]),
    )


def to_subscription(row: Row) -> Subscription:
    return Subscription(
        queue=QueueRef(row[0], row[1]),
        id=row[2],
        subscriber=row[3],
        ttl=row[4],
        options=from_json(row[5]),
        created_at=from_ms(row[6]),
        expires_at=from_ms(row[7]),
        confirmed=bool(row[8]),
        disabled_at=None if row[9] is None else from_ms(row[9]),
        secret_generation=row[10],
        secret_rotations=tuple(from_ms(at) for at in json.loads(row[11])),
    )


def _optional_ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)
