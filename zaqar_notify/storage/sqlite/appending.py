"""Rows at the end of queues."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain

import apsw
import msgspec

from zaqar_notify.models import DeadLetter, NewMessage
from zaqar_notify.storage.packing import packed
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.message_rows import (
    BODY,
    WRITTEN_HELD_UNTIL,
    Values,
    moved_values,
    new_values,
)
from zaqar_notify.storage.sqlite.numbering import Numbering
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.statements import ROWS_PER_STATEMENT, inserts
from zaqar_notify.storage.sqlite.watches import SQLiteWatches


class Appending:
    def __init__(
        self, database: Database, rows: QueueRows, numbering: Numbering, watches: SQLiteWatches
    ) -> None:
        self._database = database
        self._rows = rows
        self._numbering = numbering
        self._watches = watches

    def append(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
    ) -> int:
        """Add messages at the end of the queue, for writes of any store; the first one's position."""
        values = [new_values(message, client_id, now) for message in messages]
        first = self._insert(db, queue, values, [packed(message) for message in messages])
        visible = [one[WRITTEN_HELD_UNTIL] for one in values].count(None)
        if visible:
            self._database.after_commit.append(partial(self._watches.visible, queue.ref, visible))
        if visible < len(messages):
            self._database.after_commit.append(partial(self._watches.held, queue.ref))
        return first

    def number(self, db: apsw.Connection, queue: QueueRow, count: int) -> int:
        """Give positions to messages that are not stored; the first one's position."""
        _, first = self._numbering.take(db, queue.ref, count)
        return first

    def append_moved(
        self, db: apsw.Connection, rows: Sequence[Row], salt: bytes, to: DeadLetter, now: int
    ) -> None:
        """Append messages of a queue of this salt to the dead-letter queue, under the ids they have."""
        queue = self._rows.need(db, to.queue)
        values = [moved_values(row, salt, to.ttl, now) for row in rows]
        self._insert(db, queue, values, [row[BODY] for row in rows])
        self._database.after_commit.append(partial(self._watches.visible, queue.ref, len(rows)))

    def _insert(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        values: Sequence[Values],
        bodies: Sequence[bytes],
    ) -> int:
        """Number rows in order at the end of the queue, and write them; the first one's position."""
        behind = queue.next_position
        serial, first = self._numbering.take(db, queue.ref, len(bodies), behind=behind)
        if first == behind:
            # The clock of the store that the queue came from was ahead: the next start must know, too.
            moved_on = msgspec.structs.replace(queue, next_position=first + len(bodies))
            self._rows.change(db, moved_on)
        for start in range(0, len(bodies), ROWS_PER_STATEMENT):
            part = slice(start, start + ROWS_PER_STATEMENT)
            insert_states, insert_bodies = inserts(len(bodies[part]))
            states = chain.from_iterable(values[part])
            db.execute(insert_states, (queue.number, serial + start, first + start, *states))
            db.execute(insert_bodies, (serial + start, *bodies[part]))
        return first
