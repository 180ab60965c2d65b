"""Between rows and the parts of a queue that is read whole, and the statements for that."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable, Mapping, Sequence

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import (
    StoredCancellation,
    StoredKey,
    StoredMessage,
    digest_of_key,
)
from zaqar_notify.storage.sqlite.database import Row
from zaqar_notify.storage.sqlite.message_rows import CLAIM, MESSAGE_COLUMNS
from zaqar_notify.storage.sqlite.rows import FORMER_END, to_id
from zaqar_notify.storage.sqlite.statements import IN_ORDER, STATES, in_states, marks

ALL_IN_ORDER = IN_ORDER[True, True]
AT_POSITION = in_states(
    f"SELECT {MESSAGE_COLUMNS} FROM messages m INDEXED BY {{index}} "
    "CROSS JOIN bodies b ON b.serial = m.serial "
    "WHERE m.queue = ?1 AND m.position = ?2 AND {state}",
    *STATES,
)
SERIAL_AT = in_states(
    "SELECT m.serial FROM messages m INDEXED BY {index} "
    "WHERE m.queue = ?1 AND m.position = ?2 AND {state}",
    *STATES,
)
SERIAL_MOVED = "SELECT serial FROM messages WHERE queue = ? AND moved_id = ? AND position != ?"
_KEY = "SELECT key, fingerprint, first_position, count, salt, expires_at FROM remembered_posts WHERE project = ? AND queue = ?"
KEYS = f"{_KEY} AND key > ? AND salt IS NOT NULL ORDER BY key LIMIT ?"
KEY = f"{_KEY} AND key = ? AND salt IS NOT NULL"
_CANCELLATION = (
    "SELECT what, cancelled_at, expires_at FROM cancellations WHERE project = ? AND queue = ?"
)
CANCELLATIONS = f"{_CANCELLATION} AND what > ? ORDER BY what LIMIT ?"
CANCELLATION = f"{_CANCELLATION} AND what = ?"
CLAIMS = (
    "SELECT DISTINCT claim FROM messages INDEXED BY claimed_messages "
    "WHERE queue = ? AND claim IS NOT NULL"
)
DROPPED = "SELECT revision, next_position FROM queues WHERE project = ? AND name = ?"
TTLS_OF_CLAIMS = "SELECT id, ttl FROM claims WHERE id IN ({})"
_WRITTEN = (
    "serial, queue, position, client, ttl, posted_at, expires_at, held_until, claim, claim_count, "
    "moved_id, checksum, key_id"
)
WRITE = f"INSERT OR REPLACE INTO messages ({_WRITTEN}) VALUES ({marks(13)})"


def transferred_key(digest: bytes) -> str:
    """The `key` of a remembered post that came from another store, which may know only its digest; no client's key
    has a NUL in it."""
    return f"\0{digest.hex()}"


def to_stored(row: Row, salt: bytes, claim_ttls: Mapping[str, int]) -> StoredMessage:
    """The message of a row with `MESSAGE_COLUMNS`."""
    position, _, expires_at, client, claim_count, ttl, posted_at, held_until, claim = row[:9]
    body, moved_id, checksum, key_id = row[9:]
    if moved_id is None and position < FORMER_END:
        moved_id = to_id(position, salt)
    return StoredMessage(
        position=position,
        client=client,
        ttl=ttl,
        posted_at=posted_at,
        expires_at=expires_at,
        body=body,
        claim_count=claim_count,
        held_until=held_until,
        claim=claim,
        claim_ttl=0 if claim is None else claim_ttls.get(claim, 0),
        moved_id=moved_id,
        checksum=checksum,
        key_id=key_id,
    )


def claim_ttls(
    read: Callable[[str, tuple[object, ...]], Iterable[Row]], rows: Iterable[Row]
) -> dict[str, int]:
    """The lengths of the leases that hold these messages."""
    claims = tuple({row[CLAIM] for row in rows if row[CLAIM] is not None})
    return dict(read(TTLS_OF_CLAIMS.format(marks(len(claims))), claims))


def write_message(db: apsw.Connection, number: int, serial: int, message: StoredMessage) -> None:
    values = (
        *(serial, number, message.position, message.client, message.ttl, message.posted_at),
        *(message.expires_at, message.held_until, message.claim, message.claim_count),
        *(message.moved_id, message.checksum, message.key_id),
    )
    db.execute(WRITE, values)
    db.execute("INSERT OR REPLACE INTO bodies VALUES (?, ?)", (serial, message.body))


def write_claim(
    db: apsw.Connection, number: int, claim: str, ttl: int, serials: Sequence[int]
) -> None:
    """Let the claim hold these messages, too. It ends with the last of its messages' leases."""
    former = "SELECT serials FROM claims WHERE id = ? AND queue = ?"
    held = set(serials)
    for (others,) in db.execute(former, (claim, number)):
        held.update(array.array("q", others))
    db.execute(
        "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, "
        "(SELECT coalesce(max(held_until), 0) FROM messages "
        f"WHERE claim = ? AND serial IN ({marks(len(held))})), ?)",
        (claim, number, ttl, claim, *held, array.array("q", sorted(held)).tobytes()),
    )


def to_key(ref: QueueRef, row: Row) -> StoredKey:
    key, *others = row
    digest = bytes.fromhex(key[1:]) if key.startswith("\0") else digest_of_key(ref, key)
    return StoredKey(digest, *others)


def write_key(db: apsw.Connection, ref: QueueRef, key: StoredKey) -> None:
    db.execute(
        "INSERT OR REPLACE INTO remembered_posts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (ref.project, ref.name, transferred_key(key.digest), key.fingerprint, key.first, key.count, key.expires_at, key.salt),
    )  # fmt: skip


def write_cancellation(db: apsw.Connection, ref: QueueRef, one: StoredCancellation) -> None:
    db.execute(
        "INSERT OR REPLACE INTO cancellations VALUES (?, ?, ?, ?, ?)",
        (ref.project, ref.name, one.what, one.at, one.expires_at),
    )
