"""The first free messages of a queue, for claims and pops; and freeing those whose hold is over."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import apsw
import msgspec

from zaqar_notify.storage.passing import Look, Passing
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.message_rows import (
    CLAIM_COUNT,
    EXPIRES_AT,
    POSITION,
    SERIAL,
    opened,
)
from zaqar_notify.storage.sqlite.queue_rows import QueueRow
from zaqar_notify.storage.sqlite.removals import Removals
from zaqar_notify.storage.sqlite.statements import FALLEN_DUE, FREE_IN_ORDER, free_without
from zaqar_notify.storage.sqlite.watches import SQLiteWatches

FREED_AT_ONCE = 500
"""Held messages that fell due are freed in writes of this many, a few milliseconds each."""
PASSED_AT_ONCE = 500
"""Expired or exhausted messages that one claim or pop puts away; it then goes on in a new write."""
MANY_LOCKED = 1000
"""So many messages of a queue that can't be decrypted are not passed over in each look."""
MOST_KNOWN = 1000
"""Queues with so many, until all are forgotten."""


class HeadScan(msgspec.Struct):
    """The rows that a scan met at the head of a queue, in order; those taken have clear bodies.

    `is_cut` says that the scan ended at its bound on rows that can't be claimed, with more behind.
    """

    taken: list[Row]
    exhausted: list[Row]
    expired: list[int]
    is_cut: bool


class Scanning:
    def __init__(
        self, database: Database, removals: Removals, watches: SQLiteWatches, sealing: Sealing
    ) -> None:
        self._database = database
        self._watches = watches
        self._removals = removals
        self._sealing = sealing
        self._passing: Passing[int] = Passing()
        self._many_locked: set[int] = set()
        """The numbers of queues with many messages that can't be decrypted."""

    async def free_what_fell_due(self, queue: QueueRow, now: int) -> None:
        """Free due messages, so that one index has all visible messages in order; once for each hold."""
        while self._database.read_one(FALLEN_DUE, (queue.number, now, 1)) is not None:
            await self._database.write(lambda db: self.free_fallen_due(db, queue, now))

    def free_fallen_due(self, db: apsw.Connection, queue: QueueRow, now: int) -> bool:
        """Free held messages of the queue that are due, up to a bound; for writes of any store.

        Returns:
            Whether that was all of them.
        """
        due = db.execute(FALLEN_DUE, (queue.number, now, FREED_AT_ONCE)).fetchall()
        if due:
            db.executemany(
                "UPDATE messages SET held_until = NULL, claim = NULL WHERE serial = ?", due
            )
            visible = partial(self._watches.visible, queue.ref, len(due))
            self._database.after_commit.append(visible)
        return len(due) < FREED_AT_ONCE

    def scan(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        limit: int,
        now: int,
        max_claim_count: int | None = None,
        without_clients: Collection[str] = (),
    ) -> HeadScan:
        """The first `limit` visible messages; messages claimed too often are set apart, and those that can't
        be decrypted are passed over."""
        look = self._look(queue.number, without_clients)
        after = 0 if look is None else look.after or 0
        found = self._scan(db, queue, limit, now, after, max_claim_count, without_clients)
        if look is not None:
            look.end(found.taken[0][POSITION] if found.taken else None)
            if after and not found.taken and not without_clients:
                return self._scan(db, queue, limit, now, 0, max_claim_count, ())
        return found

    def _look(self, number: int, without_clients: Collection[str]) -> Look[int] | None:
        if without_clients or number in self._many_locked:
            return self._passing.begin(number, without_clients)
        return None

    def _scan(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        limit: int,
        now: int,
        after: int,
        max_claim_count: int | None,
        without_clients: Collection[str],
    ) -> HeadScan:
        found = HeadScan([], [], [], is_cut=False)
        others = {f"client{index}": client for index, client in enumerate(without_clients)}
        statement = free_without(len(others)) if others else FREE_IN_ORDER
        locked = 0
        rows = db.execute(statement, {"queue": queue.number, "after": after, **others})
        for row in rows:
            if self._removals.has(row[SERIAL]):
                continue
            if row[EXPIRES_AT] <= now:
                found.expired.append(row[SERIAL])
            elif (clear := opened(row, queue.ref, self._sealing)) is None:
                locked += 1
            elif max_claim_count is not None and row[CLAIM_COUNT] >= max_claim_count:
                found.exhausted.append(row)
            else:
                found.taken.append(clear)
                if len(found.taken) == limit:
                    break
            if len(found.expired) + len(found.exhausted) == PASSED_AT_ONCE:
                found.is_cut = True
                break
        rows.close()
        if locked >= MANY_LOCKED:
            self._note_locked(queue.number)
        return found

    def _note_locked(self, number: int) -> None:
        if len(self._many_locked) >= MOST_KNOWN:
            self._many_locked.clear()
        self._many_locked.add(number)
