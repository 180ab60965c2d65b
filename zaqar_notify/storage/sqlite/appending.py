"""Rows at the end of queues."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import apsw

from zaqar_notify.models import DeadLetter, NewMessage
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.message_rows import BODY, Values, moved_values, new_values
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
        rows = [(new_values(message, client_id, now), message.body) for message in messages]
        first = self._insert(db, queue, rows)
        visible = [message.delay for message in messages].count(0)
        if visible:
            self._database.after_commit.append(partial(self._watches.visible, queue.ref, visible))
        if visible < len(messages):
            self._database.after_commit.append(partial(self._watches.held, queue.ref))
        return first

    def append_moved(
        self, db: apsw.Connection, rows: Sequence[Row], salt: bytes, to: DeadLetter, now: int
    ) -> None:
        """Append messages of a queue of this salt to the dead-letter queue, under the ids they have."""
        queue = self._rows.need(db, to.queue)
        self._insert(db, queue, [(moved_values(row, salt, to.ttl, now), row[BODY]) for row in rows])
        self._database.after_commit.append(partial(self._watches.visible, queue.ref, len(rows)))

    def _insert(
        self, db: apsw.Connection, queue: QueueRow, rows: Sequence[tuple[Values, bytes]]
    ) -> int:
        """Number rows in order at the end of the queue, and write them; the first one's position."""
        serial, first = self._numbering.take(db, queue.ref, len(rows))
        for start in range(0, len(rows), ROWS_PER_STATEMENT):
            part = rows[start : start + ROWS_PER_STATEMENT]
            states: list[object] = [queue.number, serial + start, first + start]
            bodies: list[object] = [serial + start]
            for values, body in part:
                states += values
                bodies.append(body)
            insert_states, insert_bodies = inserts(len(part))
            db.execute(insert_states, states)
            db.execute(insert_bodies, bodies)
        return first
