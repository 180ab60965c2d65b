"""Changes of queues that are read whole, noted by triggers: no write knows of transfers.

The triggers exist only while a queue is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import (
    TRANSFERRED_BYTES,
    Changes,
    ChangesLost,
    Part,
    StoredCancellation,
)
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.message_rows import BODY, SERIAL
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import Removals
from zaqar_notify.storage.sqlite.statements import first_value
from zaqar_notify.storage.sqlite.transfer_rows import (
    AT_POSITION,
    CANCELLATION,
    KEY,
    claim_ttls,
    to_key,
    to_stored,
)

_OF_TRANSFER = "EXISTS (SELECT 1 FROM transfers WHERE project = NEW.project AND name = NEW.queue)"
_NUMBER = "(SELECT number FROM transfers WHERE project = NEW.project AND name = NEW.queue)"
TRIGGERS = {
    "transfer_insert": "AFTER INSERT ON messages WHEN NEW.queue IN (SELECT number FROM transfers) "
    "BEGIN INSERT INTO transfer_changes (number, position) VALUES (NEW.queue, NEW.position); END",
    "transfer_update": "AFTER UPDATE ON messages WHEN NEW.queue IN (SELECT number FROM transfers) "
    "BEGIN INSERT INTO transfer_changes (number, position) VALUES (NEW.queue, NEW.position); END",
    "transfer_delete": "AFTER DELETE ON messages WHEN OLD.queue IN (SELECT number FROM transfers) "
    "BEGIN INSERT INTO transfer_changes (number, position) VALUES (OLD.queue, OLD.position); END",
    "transfer_removal": "AFTER INSERT ON removals "
    "BEGIN INSERT INTO transfer_changes (number, position) SELECT queue, position FROM messages "
    "WHERE serial = NEW.serial AND queue IN (SELECT number FROM transfers); END",
    "transfer_key": f"AFTER INSERT ON remembered_posts WHEN {_OF_TRANSFER} "
    f"BEGIN INSERT INTO transfer_changes (number, key) VALUES ({_NUMBER}, NEW.key); END",
    "transfer_cancellation": f"AFTER INSERT ON cancellations WHEN {_OF_TRANSFER} "
    f"BEGIN INSERT INTO transfer_changes (number, cancelled) VALUES ({_NUMBER}, NEW.what); END",
}
CHANGES = (
    "SELECT sequence, position, key, cancelled FROM transfer_changes "
    "INDEXED BY transfer_changes_of_queues WHERE number = ? AND sequence > ? ORDER BY sequence LIMIT ?"
)
FORGET_CHANGES = "DELETE FROM transfer_changes WHERE number = ? AND sequence <= ?"
LAST_SEQUENCE = (1 << 63) - 1


class _Cursor(NamedTuple):
    """A life of a queue, and the last of its changes that is known."""

    number: int
    salt: bytes
    sequence: int

    def __str__(self) -> str:
        return f"{self.number}.{self.salt.hex()}.{self.sequence}"

    @classmethod
    def of(cls, text: str) -> _Cursor:
        number, salt, sequence = text.split(".")
        return cls(int(number), bytes.fromhex(salt), int(sequence))


class Noting:
    """The changes of the queues that are read whole."""

    def __init__(self, database: Database, rows: QueueRows, removals: Removals) -> None:
        self._database = database
        self._rows = rows
        self._removals = removals

    async def begin(self, ref: QueueRef) -> str | None:
        def write(db: apsw.Connection) -> str | None:
            queue = self._rows.find(db, ref)
            if queue is None:
                return None
            for name, what in TRIGGERS.items():
                db.execute(f"CREATE TRIGGER IF NOT EXISTS {name} {what}")
            _forget(db, ref)
            known = (queue.number, ref.project, ref.name)
            db.execute("INSERT INTO transfers VALUES (?, ?, ?)", known)
            return str(_Cursor(queue.number, queue.salt, 0))

        return await self._database.write(write)

    async def changes(self, ref: QueueRef, cursor: str, *, limit: int) -> Changes:
        since = _Cursor.of(cursor)

        def write(db: apsw.Connection) -> Changes:
            queue = self._rows.find(db, ref)
            noted = "SELECT 1 FROM transfers WHERE number = ?"
            if queue is None or (queue.number, queue.salt) != since[:2]:
                raise ChangesLost
            if first_value(db, noted, (queue.number,)) is None:
                raise ChangesLost
            db.execute(FORGET_CHANGES, (since.number, since.sequence))
            rows: list[Row] = db.execute(CHANGES, (since.number, since.sequence, limit)).fetchall()
            part, done = self._changed(db, queue, rows)
            last: int = rows[done - 1][0] if done else since.sequence
            is_all = len(rows) < limit and done == len(rows)
            return Changes(part, str(since._replace(sequence=last)), is_all)

        return await self._database.write(write)

    def _changed(
        self, db: apsw.Connection, queue: QueueRow, rows: Sequence[Row]
    ) -> tuple[Part, int]:
        """The present state of what these rows name, and how many of them that concerns."""
        ref, part = queue.ref, Part()
        found: dict[int, Row | None] = {}
        done = size = 0
        for _, position, key, what in rows:
            if size >= TRANSFERRED_BYTES:
                break
            if position is not None and position not in found:
                row = next(db.execute(AT_POSITION, (queue.number, position)), None)
                is_there = row is not None and not self._removals.has(row[SERIAL])
                found[position] = row if is_there else None
                size += 0 if row is None else len(row[BODY])
            elif key is not None:
                named = db.execute(KEY, (ref.project, ref.name, key))
                part.keys += [to_key(ref, row) for row in named]
            elif what is not None:
                named = db.execute(CANCELLATION, (ref.project, ref.name, what))
                part.cancelled += [StoredCancellation(*row) for row in named]
            done += 1
        there = [row for row in found.values() if row is not None]
        ttls = claim_ttls(db.execute, there)
        part.messages = [to_stored(row, queue.salt, ttls) for row in there]
        part.gone = [position for position, row in found.items() if row is None]
        return part, done

    async def end(self, ref: QueueRef) -> None:
        def write(db: apsw.Connection) -> None:
            _forget(db, ref)
            if first_value(db, "SELECT 1 FROM transfers LIMIT 1", ()) is None:
                for name in TRIGGERS:
                    db.execute(f"DROP TRIGGER IF EXISTS {name}")

        await self._database.write(write)


def _forget(db: apsw.Connection, ref: QueueRef) -> None:
    """Note no more changes of the queue, and forget those that were noted."""
    known = "DELETE FROM transfers WHERE project = ? AND name = ? RETURNING number"
    for (number,) in db.execute(known, (ref.project, ref.name)).fetchall():
        db.execute(FORGET_CHANGES, (number, LAST_SEQUENCE))
