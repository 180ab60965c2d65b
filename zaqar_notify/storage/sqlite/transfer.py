"""Transfers of queues from and to the file."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import (
    TRANSFERRED_BYTES,
    Changes,
    CopiedPage,
    Part,
    StoredCancellation,
    StoredHead,
    Transfer,
)
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.heads import remember
from zaqar_notify.storage.sqlite.message_rows import BODY, POSITION, SERIAL
from zaqar_notify.storage.sqlite.numbering import Numbering
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import Removals
from zaqar_notify.storage.sqlite.transfer_arrivals import Arrivals, forget_notes, remove
from zaqar_notify.storage.sqlite.transfer_noting import Noting
from zaqar_notify.storage.sqlite.transfer_rows import (
    ALL_IN_ORDER,
    CANCELLATIONS,
    DROPPED,
    KEYS,
    claim_ttls,
    to_key,
    to_stored,
)
from zaqar_notify.storage.sqlite.watches import SQLiteWatches

_FROM_KEYS, _FROM_CANCELLATIONS = "k", "c"


class SQLiteTransfer(Transfer):
    def __init__(
        self,
        database: Database,
        rows: QueueRows,
        numbering: Numbering,
        removals: Removals,
        watches: SQLiteWatches,
        now_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._rows = rows
        self._numbering = numbering
        self._removals = removals
        self._now_ms = now_ms
        self._noting = Noting(database, rows, removals)
        self._arrivals = Arrivals(database, rows, numbering, watches, now_ms)

    async def begin(self, ref: QueueRef) -> str | None:
        return await self._noting.begin(ref)

    async def changes(self, ref: QueueRef, cursor: str, *, limit: int) -> Changes:
        return await self._noting.changes(ref, cursor, limit=limit)

    async def end(self, ref: QueueRef) -> None:
        await self._noting.end(ref)

    async def prepare(self, move: str, ref: QueueRef, salt: bytes) -> None:
        await self._arrivals.prepare(move, ref, salt)

    async def write(self, move: str, ref: QueueRef, part: Part) -> None:
        await self._arrivals.write(move, ref, part)

    async def activate(self, move: str, ref: QueueRef, head: StoredHead) -> None:
        await self._arrivals.activate(move, ref, head)

    async def discard(self, move: str, ref: QueueRef) -> None:
        await self._arrivals.discard(move, ref)

    async def read(self, ref: QueueRef, *, after: str | None, limit: int) -> CopiedPage:
        queue = self._rows.get(ref)
        if queue is None:
            return CopiedPage(Part(), None)
        after = after or "0"
        if after.startswith(_FROM_CANCELLATIONS):
            return self._cancellations(ref, after[1:], limit)
        if after.startswith(_FROM_KEYS):
            return self._keys(ref, after[1:], limit)
        return self._messages(queue, int(after), limit)

    def _messages(self, queue: QueueRow, after: int, limit: int) -> CopiedPage:
        bindings = {"queue": queue.number, "after": after}
        with self._database.errors:
            rows, is_end = _some(self._database.read(ALL_IN_ORDER, bindings), limit)
        there = [row for row in rows if row[SERIAL] not in self._removals.removed]
        with self._database.errors:
            ttls = claim_ttls(self._database.read, there)
        part = Part([to_stored(row, queue.salt, ttls) for row in there])
        # Later ones are changes.
        return CopiedPage(part, _FROM_KEYS if is_end else str(rows[-1][POSITION]))

    def _keys(self, ref: QueueRef, after: str, limit: int) -> CopiedPage:
        with self._database.errors:
            rows = self._database.read(KEYS, (ref.project, ref.name, after, limit)).fetchall()
        part = Part(keys=[to_key(ref, row) for row in rows])
        is_last = len(rows) < limit
        return CopiedPage(part, _FROM_CANCELLATIONS if is_last else f"{_FROM_KEYS}{rows[-1][0]}")

    def _cancellations(self, ref: QueueRef, after: str, limit: int) -> CopiedPage:
        bindings = (ref.project, ref.name, after, limit)
        with self._database.errors:
            rows: list[Row] = self._database.read(CANCELLATIONS, bindings).fetchall()
        part = Part(cancelled=[StoredCancellation(*row) for row in rows])
        is_last = len(rows) < limit
        return CopiedPage(part, None if is_last else f"{_FROM_CANCELLATIONS}{rows[-1][0]}")

    async def head(self, ref: QueueRef) -> StoredHead | None:
        queue = self._rows.get(ref)
        behind = self._numbering.next_position(ref)
        if queue is None:
            row = self._database.read_one(DROPPED, (ref.project, ref.name))
            return None if row is None else StoredHead("", b"", max(behind, row[1]), None, row[0])
        return StoredHead(
            str(queue.number),
            queue.salt,
            max(behind, queue.next_position),
            queue.rules,
            queue.revision,
            queue.subscribed_until or None,
            queue.turn,
        )

    async def drop(self, ref: QueueRef, life: str) -> None:
        def write(db: apsw.Connection) -> None:
            queue = self._rows.find(db, ref)
            if queue is None or str(queue.number) != life:
                return
            remove(db, self._rows, queue)
            forget_notes(db, ref)
            behind = max(queue.next_position, self._numbering.next_position(ref))
            remember(db, ref, queue.revision, behind, self._now_ms())

        await self._database.write(write)


def _some(rows: apsw.Cursor, limit: int) -> tuple[list[Row], bool]:
    """As many of the rows as are read at once, and whether these are all."""
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row[BODY])
        if len(some) == limit or size >= TRANSFERRED_BYTES:
            rows.close()
            return some, False
    return some, True
