"""Between rows and messages: one function for each way, and the columns that they use.

A new field of a message has its column in a migration and, here, a name in `WRITTEN` and in
`MESSAGE_COLUMNS`, a value in `new_values` and in `moved_values`, and a line in `_message`.
"""

from __future__ import annotations

from typing import TypeAlias

from zaqar_notify.errors import CannotDecrypt
from zaqar_notify.models import Leaving, Message, NewMessage, Origin, QueueRef
from zaqar_notify.rules.encryption import VERSION, is_envelope
from zaqar_notify.storage.packing import unpacked
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.sqlite.database import Row
from zaqar_notify.storage.sqlite.rows import to_id
from zaqar_notify.storage.values import from_ms, instants_of

Values: TypeAlias = tuple[object, ...]

WRITTEN = (
    "client",
    "ttl",
    "posted_at",
    "expires_at",
    "held_until",
    "moved_id",
    "checksum",
    "key_id",
)
"""The columns of a new message besides its serial number, its queue and its position."""
WRITTEN_HELD_UNTIL = WRITTEN.index("held_until")

MESSAGE_COLUMNS = (
    "m.position, m.serial, m.expires_at, m.client, m.claim_count, m.ttl, m.posted_at, "
    "m.held_until, m.claim, b.body, m.moved_id, m.checksum, m.key_id"
)
"""The columns that a read of a message returns, of `messages m` and `bodies b`."""
POSITION, SERIAL, EXPIRES_AT, CLIENT, CLAIM_COUNT = range(5)
_TTL, _POSTED_AT, _HELD_UNTIL, CLAIM, BODY, _MOVED_ID, _CHECKSUM, _KEY_ID = range(5, 13)


def new_values(message: NewMessage, client_id: str, now: int) -> Values:
    """The columns `WRITTEN` of a message that is posted at `now`."""
    instants = instants_of(message, now)
    return (
        client_id,
        message.ttl,
        instants.posted_at,
        instants.expires_at,
        instants.held_until or None,
        None if message.origin is None else message.origin.id,
        message.checksum,
        message.key_id,
    )


def moved_values(row: Row, salt: bytes, ttl: int | None, now: int) -> Values:
    """The columns `WRITTEN` of a message in another queue: free, uncounted, under the id it has.

    Args:
        row: The message in the queue that it leaves, which has this `salt`.
        ttl: Its ttl from `now` on; None keeps its own.
    """
    ttl = ttl or row[_TTL]
    expires_at = now + ttl * 1000
    moved_id = _id_of(row, salt)
    fixed = (None, moved_id, row[_CHECKSUM], row[_KEY_ID])
    return (row[CLIENT], ttl, row[_POSTED_AT], expires_at, *fixed)


def opened(row: Row, ref: QueueRef, sealing: Sealing) -> Row | None:
    """The row of a message on the queue with its clear body; None: it can't be decrypted."""
    # In place of `is_envelope`, since pages call this for each message.
    if row[_KEY_ID] is None and row[BODY][:1] != VERSION:
        return row
    try:
        return opened_or_refused(row, ref, sealing)
    except CannotDecrypt:
        return None


def opened_or_refused(row: Row, ref: QueueRef, sealing: Sealing) -> Row:
    """The row of a message on the queue with its clear body.

    Raises:
        CannotDecrypt: It has none that can be read.
    """
    if row[_KEY_ID] is None and not is_envelope(row[BODY]):
        return row
    content = sealing.open(ref, row[CLIENT], row[BODY])
    return (*row[:BODY], content.body, row[_MOVED_ID], content.checksum, row[_KEY_ID])


def to_leaving(row: Row, salt: bytes) -> Leaving:
    """The message of a queue of this salt, as it leaves; the row has its clear body."""
    origin = Origin(_id_of(row, salt), from_ms(row[_POSTED_AT]))
    body, attributes = unpacked(row[BODY])
    message = NewMessage(body, row[_TTL], checksum=row[_CHECKSUM], attributes=attributes)
    place = to_id(row[POSITION], salt)
    return Leaving(message, origin, row[CLIENT], place, is_encrypted=row[_KEY_ID] is not None)


def to_message(row: Row, salt: bytes, now: int) -> Message:
    """The message of a queue of this salt, as it is at `now`."""
    held_until = row[_HELD_UNTIL]
    claim_id = row[CLAIM] if held_until is not None and held_until > now else None
    return _message(row, salt, row[EXPIRES_AT], claim_id, row[CLAIM_COUNT])


def to_claimed_message(row: Row, salt: bytes, *, claim_id: str, kept_until: int) -> Message:
    """The message of a row that was free, as it is once the claim holds it."""
    expires_at = max(row[EXPIRES_AT], kept_until)
    return _message(row, salt, expires_at, claim_id, row[CLAIM_COUNT] + 1)


def _message(row: Row, salt: bytes, expires_at: int, claim_id: str | None, count: int) -> Message:
    body, attributes = unpacked(row[BODY])
    return Message(
        id=_id_of(row, salt),
        body=body,
        ttl=row[_TTL],
        posted_at=from_ms(row[_POSTED_AT]),
        expires_at=from_ms(expires_at),
        claim_id=claim_id,
        claim_count=count,
        checksum=row[_CHECKSUM],
        attributes=attributes,
    )


def _id_of(row: Row, salt: bytes) -> str:
    moved_id: str | None = row[_MOVED_ID]
    return to_id(row[POSITION], salt) if moved_id is None else moved_id
