"""Counting the messages of a queue."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apsw

from zaqar_notify.models import INTERNAL_PROJECT, OldestNewest, QueueStats
from zaqar_notify.storage.sealing import OVERHEAD_BYTES
from zaqar_notify.storage.sqlite.queue_rows import QueueRow
from zaqar_notify.storage.sqlite.rows import to_id
from zaqar_notify.storage.sqlite.statements import first_value
from zaqar_notify.storage.values import from_ms

_OF_PREFIX = "WHERE q.project = ? AND q.name >= ? AND q.name < ?"
COUNTS_BY_PREFIX = (
    "SELECT count(*) FROM queues q CROSS JOIN messages m INDEXED BY free_messages "
    f"ON m.queue = q.id AND m.held_until IS NULL {_OF_PREFIX}",
    "SELECT count(*) FROM queues q CROSS JOIN messages m INDEXED BY held_messages "
    f"ON m.queue = q.id AND m.held_until IS NOT NULL {_OF_PREFIX}",
    "SELECT count(*) FROM removals r CROSS JOIN messages m USING (serial) "
    f"CROSS JOIN queues q ON q.id = m.queue {_OF_PREFIX}",
)
"""Free and held messages, and those of them that are deleted and not taken out yet."""


_OF_CLIENTS = "WHERE q.project > :internal AND q.dropped_at IS NULL"
COUNTS_OF_CLIENTS = (
    "SELECT count(*) FROM queues q CROSS JOIN messages m INDEXED BY free_messages "
    f"ON m.queue = q.id AND m.held_until IS NULL {_OF_CLIENTS}",
    "SELECT count(*) FROM queues q CROSS JOIN messages m INDEXED BY held_messages "
    f"ON m.queue = q.id AND m.held_until IS NOT NULL {_OF_CLIENTS}",
    "SELECT count(*) FROM removals r CROSS JOIN messages m USING (serial) "
    f"CROSS JOIN queues q ON q.id = m.queue {_OF_CLIENTS}",
    "SELECT count(*) FROM queues q CROSS JOIN messages m INDEXED BY held_messages "
    f"ON m.queue = q.id AND m.held_until > :now AND m.claim IS NOT NULL {_OF_CLIENTS} "
    "AND m.serial NOT IN (SELECT serial FROM removals)",
)
"""Free and held messages, those of them that are deleted and not taken out yet, and those under a live claim."""


_CLEAR_BYTES = (
    f"max(0, length(b.body) - iif(m.key_id IS NULL, 0, {OVERHEAD_BYTES} + length(m.key_id) "
    "+ length(CAST(q.project AS BLOB))))"
)
"""A damaged envelope may be shorter than an empty one."""
_BYTES = (
    f"SELECT {_CLEAR_BYTES} AS size FROM {{queues}} CROSS JOIN messages m "
    "INDEXED BY {index} "
    "ON m.queue = q.id AND m.held_until IS {state} CROSS JOIN bodies b ON b.serial = m.serial "
    "WHERE q.project = :project AND q.dropped_at IS NULL AND m.expires_at > :now "
    "AND m.serial NOT IN (SELECT serial FROM removals)"
)


def _bytes_on(queues: str) -> str:
    free = _BYTES.format(queues=queues, index="free_messages", state="NULL")
    held = _BYTES.format(queues=queues, index="held_messages", state="NOT NULL")
    return f"SELECT coalesce(sum(size), 0) FROM ({free} UNION ALL {held})"


BYTES_OF_PROJECT = _bytes_on("queues q")
BYTES_OF_NAMES = _bytes_on(
    "json_each(:names) n CROSS JOIN queues q ON q.project = :project AND q.name = n.value"
)


def count_bytes(db: apsw.Connection, project: str, now: int) -> int:
    """The bytes of the bodies on the project's queues."""
    found: int = db.execute(BYTES_OF_PROJECT, {"project": project, "now": now}).get
    return found


def count_internal_bytes(db: apsw.Connection, names: Sequence[str], now: int) -> int:
    """The bytes of the bodies on the internal queues with these names."""
    bindings = {"project": INTERNAL_PROJECT, "names": json.dumps(names), "now": now}
    found: int = db.execute(BYTES_OF_NAMES, bindings).get
    return found


def count_internal(db: apsw.Connection, prefix: str) -> int:
    """The number of messages on internal queues with names that begin with `prefix`."""
    db.execute("BEGIN")  # One snapshot; the connection is closed after this.
    bindings = (INTERNAL_PROJECT, prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
    free, held, removed = (first_value(db, each, bindings) for each in COUNTS_BY_PREFIX)
    remaining: int = free + held - removed
    return remaining


def count_of_clients(db: apsw.Connection, now: int) -> QueueStats:
    """The messages on clients' queues, from the indexes alone."""
    db.execute("BEGIN")  # One snapshot; the connection is closed after this.
    bindings = {"internal": INTERNAL_PROJECT, "now": now}
    free, held, removed, claimed = (first_value(db, each, bindings) for each in COUNTS_OF_CLIENTS)
    return QueueStats(claimed, free + held - removed - claimed)


def count(db: apsw.Connection, queue: QueueRow, now: int) -> QueueStats:
    """Counts from the indexes alone; the few expired or lapsed messages before a sweep are read."""

    def one(statement: str, *bindings: int) -> int:
        value: int = first_value(db, statement, bindings)
        return value

    number = queue.number
    db.execute("BEGIN")  # One snapshot; the connection is closed after this.
    claimed = one(
        "SELECT count(*) FROM messages INDEXED BY claimed_messages WHERE queue = ? AND claim IS NOT NULL",
        number,
    )
    free = one(
        "SELECT count(*) FROM messages INDEXED BY free_messages WHERE queue = ? AND held_until IS NULL",
        number,
    ) + one(
        "SELECT count(*) FROM messages INDEXED BY delayed_messages "
        "WHERE queue = ? AND held_until IS NOT NULL AND claim IS NULL",
        number,
    )
    lapsed = one(
        "SELECT count(*) FROM messages INDEXED BY held_messages "
        "WHERE queue = ? AND held_until <= ? AND claim IS NOT NULL",
        number,
        now,
    )
    free_again = one(
        "SELECT count(*) FROM messages INDEXED BY held_messages "
        "WHERE queue = ? AND held_until <= ? AND claim IS NOT NULL AND expires_at > ?",
        number,
        now,
        now,
    )
    expired = one(
        "SELECT count(*) FROM messages INDEXED BY expiring_messages "
        "WHERE claim IS NULL AND expires_at <= ? AND queue = ?",
        now,
        number,
    )
    removed: dict[int, int] = dict(
        db.execute(
            "SELECT m.claim IS NOT NULL AND m.held_until > :now, count(*) FROM removals "
            "CROSS JOIN messages m USING (serial) "
            "WHERE m.queue = :queue AND m.expires_at > :now GROUP BY 1",
            {"queue": number, "now": now},
        )
    )
    return QueueStats(
        claimed=claimed - lapsed - removed.get(1, 0),
        free=free + free_again - expired - removed.get(0, 0),
        oldest=_end(db, queue, now, "ASC"),
        newest=_end(db, queue, now, "DESC"),
    )


def _end(db: apsw.Connection, queue: QueueRow, now: int, direction: str) -> OldestNewest | None:
    """The first or last message that is not delayed."""
    ends = []
    for index, state in (
        ("free_messages", "held_until IS NULL"),
        ("claimed_messages", "claim IS NOT NULL"),
        ("delayed_messages", "held_until IS NOT NULL AND claim IS NULL AND held_until <= :now"),
    ):
        row = next(
            db.execute(
                f"SELECT position, moved_id, posted_at FROM messages INDEXED BY {index} "
                f"WHERE queue = :queue AND {state} AND expires_at > :now "
                "AND serial NOT IN (SELECT serial FROM removals) "
                f"ORDER BY position {direction} LIMIT 1",
                {"queue": queue.number, "now": now},
            ),
            None,
        )
        if row is not None:
            ends.append(row)
    if not ends:
        return None
    position, moved_id, posted_at = min(ends) if direction == "ASC" else max(ends)
    return OldestNewest(moved_id or to_id(position, queue.salt), from_ms(posted_at))
