"""Messages that were deleted before their delay had ended, noted in the write that deletes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from datetime import datetime

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import CANCELLED_KEPT
from zaqar_notify.storage.ids import life_of
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.statements import first_value
from zaqar_notify.storage.values import MILLISECOND, to_ms

KEPT_MS = CANCELLED_KEPT // MILLISECOND
ANY_HELD = (
    "SELECT 1 FROM messages INDEXED BY held_messages WHERE queue = ? AND held_until > ? LIMIT 1"
)
CANCELLED = (
    "SELECT what, cancelled_at FROM cancellations "
    "WHERE project = ? AND queue = ? AND what IN (SELECT value FROM json_each(?))"
)
"""A list of ids is one parameter, because a post may have more messages than a statement takes parameters."""


def cancel(db: apsw.Connection, ref: QueueRef, what: Iterable[str], now: int) -> None:
    """Note the ids of messages, or the end of a life of the queue; for writes of any store."""
    db.executemany(
        "INSERT OR IGNORE INTO cancellations VALUES (?, ?, ?, ?, ?)",
        [(ref.project, ref.name, one, now, now + KEPT_MS) for one in what],
    )


def cancel_all(db: apsw.Connection, ref: QueueRef, number: int, salt: bytes, now: int) -> None:
    """Note that the queue's present life ends, if any of its messages may be delayed."""
    if first_value(db, ANY_HELD, (number, now)) is not None:
        cancel(db, ref, [salt.hex()], now)


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
