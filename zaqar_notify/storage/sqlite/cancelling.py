"""Messages that were deleted before their delay had ended, noted in the write that deletes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from datetime import datetime

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import CANCELLED_KEPT
from zaqar_notify.storage.ids import life_of
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.statements import first_value
from zaqar_notify.storage.values import MILLISECOND, to_ms

KEPT_MS = CANCELLED_KEPT // MILLISECOND
HELD_LONGEST = (
    "SELECT held_until FROM messages INDEXED BY held_messages "
    "WHERE queue = ? AND held_until > ? ORDER BY held_until DESC LIMIT 1"
)
CANCELLED = (
    "SELECT what, cancelled_at FROM cancellations "
    "WHERE project = ? AND queue = ? AND what IN (SELECT value FROM json_each(?))"
)
"""A list of ids is one parameter, because a post may have more messages than a statement takes parameters."""


def cancel(db: apsw.Connection, ref: QueueRef, what: Mapping[str, int], now: int) -> None:
    """Note the ids of messages, or the end of a life of the queue, each with the instant until which it was delayed
    at most; for writes of any store."""
    db.executemany(
        "INSERT OR IGNORE INTO cancellations VALUES (?, ?, ?, ?, ?)",
        [(ref.project, ref.name, one, now, until + KEPT_MS) for one, until in what.items()],
    )


def cancel_all(db: apsw.Connection, ref: QueueRef, number: int, salt: bytes, now: int) -> None:
    """Note that the queue's present life ends, if any of its messages may be delayed."""
    longest = first_value(db, HELD_LONGEST, (number, now))
    if longest is not None:
        cancel(db, ref, {salt.hex(): longest}, now)


def find_cancelled(database: Database, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
    """As `MessageStore.cancelled`."""
    wanted = {*due, *map(life_of, due)}
    bindings = (ref.project, ref.name, json.dumps([*wanted]))
    with database.errors:
        noted: dict[str, int] = dict(database.read(CANCELLED, bindings))
    return {
        message_id
        for message_id, at in due.items()
        if message_id in noted or noted.get(life_of(message_id), to_ms(at)) < to_ms(at)
    }
