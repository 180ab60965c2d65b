"""Serial numbers of messages in the file, and positions of messages in their queues.

Serial numbers are in the order of commits, which are one writer's, so none is seen after a higher one.
They are reserved by the hundred thousand, so that numbering writes nothing per post; a crash leaves a
hole.

A position is the present millisecond, followed by a count of the queue's messages in it
(docs/decisions/0006). So the only state is that of the present millisecond. The host's clock is read at the
start; from then on a monotonic clock counts. A note in the file keeps positions from going back when the
next start finds the host's clock set back.
"""

from __future__ import annotations

import secrets
import time

import apsw

from zaqar_notify.clock import running_seconds
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.ids import POSITIONS_PER_MS
from zaqar_notify.storage.sqlite.database import Database

RESERVED_SERIALS = 100_000
RESERVED_MS = 100
"""By so much a start may find the file ahead of the clock."""


class Numbering:
    def __init__(self, database: Database) -> None:
        serials, positions_until = database.read_one(
            "SELECT serials, positions_until FROM numbering"
        ) or (1, 0)
        self._next_serial: int = serials
        self._serials: int = serials
        self._start_ms: int = max(time.time_ns() // 1_000_000, positions_until)
        self._started_at = running_seconds()
        # A restored file may be started with a clock that is behind. New messages get new ids all the same.
        self._offset = secrets.randbelow(POSITIONS_PER_MS // 2)
        self._positions_until = 0
        self._reserving: tuple[int, int] | None = None
        self._present = 0
        self._next: dict[QueueRef, int] = {}
        """The next position of queues that got some in the present millisecond."""
        database.after_end.append(self._ended)

    def take(
        self, db: apsw.Connection, ref: QueueRef, count: int, *, behind: int = 0
    ) -> tuple[int, int]:
        """The first of `count` serial numbers in a row, and of as many positions in the queue, none before `behind`."""
        present_ms = self._present_ms()
        serial = self._take_serials(db, count, present_ms)
        first = max(self._first(ref, present_ms), behind)
        self._next[ref] = first + count
        return serial, first

    def take_serials(self, db: apsw.Connection, count: int) -> int:
        """The first of `count` serial numbers in a row."""
        return self._take_serials(db, count, self._present_ms())

    def next_position(self, ref: QueueRef) -> int:
        """One that is behind all positions which were taken here."""
        return self._first(ref, self._present_ms())

    def _present_ms(self) -> int:
        return self._start_ms + int((running_seconds() - self._started_at) * 1000)

    def _take_serials(self, db: apsw.Connection, count: int, present_ms: int) -> int:
        serial = self._next_serial
        self._next_serial += count
        if self._next_serial > self._serials or present_ms >= self._positions_until:
            self._reserve(db, present_ms)
        return serial

    def _first(self, ref: QueueRef, present_ms: int) -> int:
        present = present_ms * POSITIONS_PER_MS + self._offset
        if present != self._present:
            self._present = present
            self._next = {queue: end for queue, end in self._next.items() if end > present}
        return self._next.get(ref, present)

    def _reserve(self, db: apsw.Connection, present_ms: int) -> None:
        """Reserve more, if this transaction has not done so."""
        serials, positions_until = self._reserving or (0, 0)
        if self._next_serial <= serials and present_ms < positions_until:
            return
        self._reserving = self._next_serial + RESERVED_SERIALS, present_ms + RESERVED_MS
        db.execute("UPDATE numbering SET serials = ?, positions_until = ?", self._reserving)

    def _ended(self, committed: bool) -> None:
        if committed and self._reserving is not None:
            self._serials, self._positions_until = self._reserving
        self._reserving = None
