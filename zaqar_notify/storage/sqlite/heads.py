"""Heads of queues: the part that posts and claims read, beside the messages."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

import apsw
import msgspec

from zaqar_notify.models import INTERNAL_PROJECT, JsonObject, QueueRef
from zaqar_notify.storage.base import Head, Heads
from zaqar_notify.storage.ids import new_salt
from zaqar_notify.storage.sqlite.cancelling import cancel_all
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.statements import first_value
from zaqar_notify.storage.sqlite.stats import count_internal
from zaqar_notify.storage.values import from_ms, to_ms

DROPPED_KEPT_MS = 86_400_000
"""For so long the revision is remembered at which a head was dropped."""

_REVISION = "SELECT revision FROM queues WHERE project = ? AND name = ?"
INTERNAL = "SELECT name FROM queues WHERE project = ? AND name > ? AND dropped_at IS NULL ORDER BY name LIMIT ?"
OF_CLIENTS = (
    "SELECT project, name FROM queues WHERE (project, name) > (?, ?) AND dropped_at IS NULL "
    "ORDER BY project, name LIMIT ?"
)
BEFORE_CLIENTS = QueueRef("\x01", "")
"""Internal queues are before it; the project of a client's queue has no such character."""
FORGOTTEN = (
    "DELETE FROM queues WHERE id IN (SELECT id FROM queues INDEXED BY dropped_heads "
    "WHERE dropped_at <= ? LIMIT ?)"
)


class SQLiteHeads(Heads):
    def __init__(self, database: Database, rows: QueueRows) -> None:
        self._database = database
        self._rows = rows

    async def get(self, ref: QueueRef) -> Head | None:
        row = self._rows.get(ref)
        if row is None:
            return None
        until = from_ms(row.subscribed_until) if row.subscribed_until else None
        return Head(row.rules, row.revision, until, row.turn)

    async def put(
        self, ref: QueueRef, rules: JsonObject, *, revision: int, subscribed_until: datetime | None
    ) -> bool:
        until = 0 if subscribed_until is None else to_ms(subscribed_until)

        def write(db: apsw.Connection) -> bool:
            row = self._rows.find(db, ref)
            if row is None:
                known = first_value(db, _REVISION, (ref.project, ref.name)) or 0
                if revision <= known:
                    return False
                behind = forget(db, ref)
                # Turns of one life are never those of another.
                turn = secrets.randbits(62)
                made = QueueRow(ref, 0, new_salt(), rules, revision, until, turn, behind)
                self._rows.insert(db, made)
            elif revision > row.revision:
                until_then = max(until, row.subscribed_until)
                changed = msgspec.structs.replace(
                    row,
                    rules=rules,
                    revision=revision,
                    subscribed_until=until_then,
                    turn=row.turn + 1,
                )
                self._rows.change(db, changed)
            elif revision < row.revision or rules != row.rules:
                return False
            return True

        return await self._database.write(write, grows=Grows.CLIENTS)

    async def revision(self, ref: QueueRef) -> int:
        found = self._database.read_one(_REVISION, (ref.project, ref.name))
        return 0 if found is None else found[0]

    async def drop(self, ref: QueueRef, *, revision: int, now: datetime) -> None:
        now_ms = to_ms(now)

        def write(db: apsw.Connection) -> None:
            row = self._rows.find(db, ref)
            known = first_value(db, _REVISION, (ref.project, ref.name)) or 0
            behind = 0
            if row is not None:
                cancel_all(db, ref, row.number, row.salt, now_ms)
                self._rows.remove(db, row)
                behind = row.next_position
            behind = max(behind, forget(db, ref))
            remember(db, ref, max(revision, known), behind, now_ms)

        await self._database.write(write)

    async def drop_internal(self, refs: Sequence[QueueRef]) -> None:
        def write(db: apsw.Connection) -> None:
            for ref in refs:
                row = self._rows.find(db, ref)
                if row is not None:
                    self._rows.remove(db, row)

        if any(self._rows.get(ref) is not None for ref in refs):
            await self._database.write(write)

    async def internal(self, *, after: str, limit: int) -> Sequence[str]:
        with self._database.errors:
            rows = self._database.read(INTERNAL, (INTERNAL_PROJECT, after, limit))
            return [name for (name,) in rows]

    async def of_clients(self, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        first = after or BEFORE_CLIENTS
        with self._database.errors:
            rows = self._database.read(OF_CLIENTS, (first.project, first.name, limit))
            return [QueueRef(project, name) for project, name in rows]

    async def count_internal(self, *, prefix: str) -> int:
        return await self._database.read_slowly(
            INTERNAL_PROJECT, lambda db: count_internal(db, prefix)
        )

    async def raise_subscribed(self, ref: QueueRef, until: datetime) -> bool:
        until_ms = to_ms(until)

        def write(db: apsw.Connection) -> bool:
            row = self._rows.find(db, ref)
            if row is None:
                return False
            until = max(until_ms, row.subscribed_until)
            raised = msgspec.structs.replace(row, subscribed_until=until, turn=row.turn + 1)
            self._rows.change(db, raised)
            return True

        return await self._database.write(write)

    async def lower_subscribed(self, ref: QueueRef, until: datetime | None, *, turn: int) -> bool:
        until_ms = 0 if until is None else to_ms(until)

        def write(db: apsw.Connection) -> bool:
            row = self._rows.find(db, ref)
            if row is None or row.turn != turn:
                return False
            if row.subscribed_until != until_ms:
                self._rows.change(db, msgspec.structs.replace(row, subscribed_until=until_ms))
            return True

        return await self._database.write(write)


def forget(db: apsw.Connection, ref: QueueRef) -> int:
    """Remove the remaining row of a dropped head; the position that the queue goes on behind."""
    gone = "DELETE FROM queues WHERE project = ? AND name = ? RETURNING next_position"
    return max((position for (position,) in db.execute(gone, (ref.project, ref.name))), default=0)


def remember(db: apsw.Connection, ref: QueueRef, revision: int, behind: int, now: int) -> None:
    """Keep the revision of a head that is dropped at `now`, and the position that the queue goes on behind."""
    db.execute(
        "INSERT INTO queues (project, name, salt, rules, revision, subscribed_until, turn, next_position, dropped_at) "
        "VALUES (?, ?, x'', '{}', ?, 0, 0, ?, ?)",
        (ref.project, ref.name, revision, behind, now),
    )
