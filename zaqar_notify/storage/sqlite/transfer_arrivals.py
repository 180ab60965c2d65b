"""Queues that come from another store: internal queues until they are activated, which is one write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import ChangesLost, Part, StoredHead, arriving
from zaqar_notify.storage.internal import internal_ref
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.heads import forget, remember
from zaqar_notify.storage.sqlite.numbering import Numbering
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import take_out
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.statements import first_value
from zaqar_notify.storage.sqlite.transfer_rows import (
    CLAIMS,
    SERIAL_AT,
    SERIAL_MOVED,
    write_cancellation,
    write_claim,
    write_key,
    write_message,
)
from zaqar_notify.storage.sqlite.watches import SQLiteWatches


class Arrivals:
    """The queues that are about to come, and what is left of those that went."""

    def __init__(
        self,
        database: Database,
        rows: QueueRows,
        numbering: Numbering,
        watches: SQLiteWatches,
        now_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._rows = rows
        self._numbering = numbering
        self._watches = watches
        self._now_ms = now_ms

    async def prepare(self, move: str, ref: QueueRef, salt: bytes) -> None:
        name = internal_ref(arriving(move, ref))

        def write(db: apsw.Connection) -> None:
            stand_in = self._rows.find(db, name)
            if stand_in is not None and stand_in.salt != salt:
                self._discard(db, ref, stand_in)
                stand_in = None
            if stand_in is None and not self._has_come(db, move, ref):
                self._rows.insert(db, QueueRow(name, 0, salt, {}, 0, 0, 0))

        await self._database.write(write, grows=Grows.CLIENTS)

    async def write(self, move: str, ref: QueueRef, part: Part) -> None:
        """The part is small: its statements run on the event loop."""

        def write(db: apsw.Connection) -> None:
            stand_in = self._stand_in(db, move, ref)
            if stand_in is None:
                return
            number = stand_in.number
            take_out(db, _serials(db, SERIAL_AT, [(number, position) for position in part.gone]))
            moved = [
                (number, one.moved_id, one.position)
                for one in part.messages
                if one.moved_id is not None
            ]
            take_out(db, _serials(db, SERIAL_MOVED, moved))
            self._write_messages(db, number, part)
            for key in part.keys:
                write_key(db, ref, key)
            for one in part.cancelled:
                write_cancellation(db, ref, one)

        await self._database.write(write, grows=Grows.CLIENTS)

    def _write_messages(self, db: apsw.Connection, number: int, part: Part) -> None:
        next_serial = self._numbering.take_serials(db, len(part.messages))
        held: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        for message in part.messages:
            serial = first_value(db, SERIAL_AT, (number, message.position))
            if serial is None:
                serial, next_serial = next_serial, next_serial + 1
            write_message(db, number, serial, message)
            if message.claim is not None:
                held[message.claim, message.claim_ttl].append(serial)
        for (claim, ttl), serials in held.items():
            write_claim(db, number, claim, ttl, serials)

    def _stand_in(self, db: apsw.Connection, move: str, ref: QueueRef) -> QueueRow | None:
        """The internal queue that stands for the queue until it is activated; None: it was.

        Raises:
            ChangesLost: It was discarded.
        """
        stand_in = self._rows.find(db, internal_ref(arriving(move, ref)))
        if stand_in is None and not self._has_come(db, move, ref):
            raise ChangesLost
        return stand_in

    def _has_come(self, db: apsw.Connection, move: str, ref: QueueRef) -> bool:
        present = self._rows.find(db, ref)
        return present is not None and present.came_by == move

    async def activate(self, move: str, ref: QueueRef, head: StoredHead) -> None:
        def write(db: apsw.Connection) -> None:
            stand_in = self._stand_in(db, move, ref)
            if stand_in is None:
                return
            present = self._rows.find(db, ref)
            if present is not None:
                remove(db, self._rows, present)
            forget(db, ref)
            if head.rules is None:
                remove(db, self._rows, stand_in)
                remember(db, ref, head.revision, head.next, self._now_ms())
                return
            until, number = head.subscribed_until or 0, stand_in.number
            fixed = (ref, number, head.salt, head.rules, head.revision, until, head.turn)
            row = QueueRow(*fixed, next_position=head.next, came_by=move)
            self._rows.rename(db, row, stand_in.ref)
            self._database.after_commit.append(partial(self._watches.visible, ref, 1))

        await self._database.write(write)

    async def discard(self, move: str, ref: QueueRef) -> None:
        def write(db: apsw.Connection) -> None:
            queue = self._rows.find(db, internal_ref(arriving(move, ref)))
            if queue is not None:
                self._discard(db, ref, queue)

        await self._database.write(write)

    def _discard(self, db: apsw.Connection, ref: QueueRef, stand_in: QueueRow) -> None:
        remove(db, self._rows, stand_in)
        if self._rows.find(db, ref) is None:
            forget_notes(db, ref)


def remove(db: apsw.Connection, rows: QueueRows, queue: QueueRow) -> None:
    """Remove a queue that is on another store, or never came, with all that was stored for it.

    Its messages are left to the sweep. Their claims go at once, because they may live on another store.
    """
    rows.remove(db, queue)
    for (claim,) in db.execute(CLAIMS, (queue.number,)).fetchall():
        db.execute("DELETE FROM claims WHERE id = ? AND queue = ?", (claim, queue.number))


def forget_notes(db: apsw.Connection, ref: QueueRef) -> None:
    """Forget the queue's idempotency keys, and what was cancelled on it."""
    for table in ("remembered_posts", "cancellations"):
        named = (ref.project, ref.name)
        db.execute(f"DELETE FROM {table} WHERE project = ? AND queue = ?", named)


def _serials(
    db: apsw.Connection, statement: str, bindings: Iterable[Sequence[object]]
) -> list[int]:
    """The serial numbers that the statement finds with each of these bindings."""
    return [serial for each in bindings for (serial,) in db.execute(statement, each)]
