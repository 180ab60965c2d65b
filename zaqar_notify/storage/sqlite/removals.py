"""Messages that are deleted, and not yet taken out of the tables.

A delete of its own would write a page of each table and index that the message is in, nine pages
to a commit. Noting its serial number writes one; the rows go later, hundreds at a time. Until then
readers and claims pass over them (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import apsw

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.sqlite.database import Database

TAKEN_OUT_AT_ONCE = 500
"""Removals that are taken out of the tables together, in a few milliseconds of statements."""
ENOUGH_AT_ONCE = 10
"""So many neighbours are cheaper to take out than to note: pops of 20 got 2 to 6 times as far."""
MOST_NOTED = 2 * TAKEN_OUT_AT_ONCE
"""Each look at the head of a queue passes over the noted messages, so their number is bounded: as many are
taken out as are added, however many callers delete at a time."""
LONGEST_SECONDS = 0.5
"""How long removals wait for others."""


class Removals:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._changing: set[int] = set()
        self._taken_out: Collection[int] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._taking_out: asyncio.Task[None] | None = None
        self.removed: set[int] = {row[0] for row in database.read("SELECT serial FROM removals")}
        """Serial numbers, for readers. A reader that keeps a snapshot open keeps this very set, too."""
        database.after_end.append(self._ended)
        self._plan()

    def add(self, db: apsw.Connection, serials: Sequence[int]) -> None:
        """Delete these messages, for writes of any store: noted, or taken out at once when enough are."""
        noted = len(self.removed) + len(self._changing)
        if len(serials) >= ENOUGH_AT_ONCE or noted + len(serials) > MOST_NOTED:
            take_out(db, serials)
            return
        db.executemany("INSERT OR IGNORE INTO removals VALUES (?)", [(one,) for one in serials])
        self._changing.update(serials)

    def has(self, serial: int) -> bool:
        """For writes: whether the message is deleted."""
        return serial in self.removed or serial in self._changing

    def _ended(self, committed: bool) -> None:
        if committed:
            self.removed.update(self._changing)
            if self._taken_out:
                # A new set: a reader may be on a snapshot in which these rows still are.
                self.removed = self.removed.difference(self._taken_out)
        self._changing = set()
        self._taken_out = ()
        self._plan()

    def _plan(self) -> None:
        """See to it that removals are taken out, soon or when there are enough of them."""
        if not self.removed or self._taking_out is not None:
            return
        if len(self.removed) >= TAKEN_OUT_AT_ONCE:
            self._begin()
        elif self._timer is None:
            self._timer = self._loop.call_later(LONGEST_SECONDS, self._begin)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._taking_out is None:
            self._taking_out = self._loop.create_task(self._take_out())

    async def _take_out(self) -> None:
        try:
            await self._database.write(self._delete)
        except StorageUnavailable:
            return  # They stay noted; the next removal, or the next start, tries again.
        finally:
            self._taking_out = None
        self._plan()

    def _delete(self, db: apsw.Connection) -> None:
        serials = sorted(self.removed)[:TAKEN_OUT_AT_ONCE]
        take_out(db, serials)
        db.executemany("DELETE FROM removals WHERE serial = ?", [(one,) for one in serials])
        self._taken_out = serials


def take_out(db: apsw.Connection, serials: Sequence[int]) -> None:
    """Delete messages from the tables at once, for writes that delete many or few ever do."""
    bindings = [(serial,) for serial in serials]
    db.executemany("DELETE FROM messages WHERE serial = ?", bindings)
    db.executemany("DELETE FROM bodies WHERE serial = ?", bindings)
