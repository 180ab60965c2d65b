"""The queues that have a head: the number under which the message tables know each, and its head."""

from __future__ import annotations

import apsw
import msgspec

from zaqar_notify.models import INTERNAL_PROJECT, JsonObject, QueueRef
from zaqar_notify.storage.base import HeadMissing
from zaqar_notify.storage.ids import new_salt
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.values import from_json, to_json

CACHED_HEADS = 10_000

_SELECT = (
    "SELECT id, salt, rules, revision, subscribed_until, turn, next_position, came_by FROM queues "
    "WHERE project = ? AND name = ? AND dropped_at IS NULL"
)


class QueueRow(msgspec.Struct, frozen=True):
    """A queue that has a head: its number, and the end of its ids (`salt`). `subscribed_until` in ms, or 0.

    No message gets a position before `next_position`. `came_by` is the move that brought it from another store.
    """

    ref: QueueRef
    number: int
    salt: bytes
    rules: JsonObject
    revision: int
    subscribed_until: int
    turn: int
    next_position: int = 0
    came_by: str = ""


class QueueRows:
    """The rows of queues with a head, cached: this process is the only one that changes them.

    Readers see committed rows; a write also sees the changes of its own transaction.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._committed: dict[QueueRef, QueueRow | None] = {}
        self._changing: dict[QueueRef, QueueRow | None] = {}
        database.after_end.append(self._ended)

    def get(self, ref: QueueRef) -> QueueRow | None:
        """For readers."""
        self._database.check_open()
        if ref in self._committed:
            return self._committed[ref]
        row = _row(ref, self._database.read_one(_SELECT, (ref.project, ref.name)))
        if ref not in self._changing:
            self._remember(ref, row)
        return row

    def find(self, db: apsw.Connection, ref: QueueRef) -> QueueRow | None:
        """For writes."""
        if ref in self._changing:
            return self._changing[ref]
        if ref in self._committed:
            return self._committed[ref]
        row = _row(ref, next(db.execute(_SELECT, (ref.project, ref.name)), None))
        self._remember(ref, row)
        return row

    def ref(self, db: apsw.Connection, number: int) -> QueueRef | None:
        """For writes: which queue has this number; None when it was dropped or purged."""
        for project, name in db.execute("SELECT project, name FROM queues WHERE id = ?", (number,)):
            return QueueRef(project, name)
        return None

    def need(self, db: apsw.Connection, ref: QueueRef) -> QueueRow:
        """For writes that add messages: an internal queue is made when absent.

        Raises:
            HeadMissing: A client's queue is not.
        """
        return self.find(db, ref) or self.make(db, ref)

    def make(self, db: apsw.Connection, ref: QueueRef) -> QueueRow:
        """For writes that add messages: the row of an internal queue that is absent.

        Raises:
            HeadMissing: It is a client's queue.
        """
        if ref.project != INTERNAL_PROJECT:
            raise HeadMissing(ref)
        return self.insert(db, QueueRow(ref, 0, new_salt(), {}, 0, 0, 0))

    def insert(self, db: apsw.Connection, row: QueueRow) -> QueueRow:
        """Store it under a number of its own."""
        db.execute(
            "INSERT INTO queues (project, name, salt, rules, revision, subscribed_until, turn, next_position, came_by) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.ref.project, row.ref.name, row.salt, to_json(row.rules), row.revision, row.subscribed_until, row.turn, row.next_position, row.came_by),
        )  # fmt: skip
        row = msgspec.structs.replace(row, number=db.last_insert_rowid())
        self._changing[row.ref] = row
        return row

    def change(self, db: apsw.Connection, row: QueueRow) -> None:
        """Store its head anew."""
        db.execute(
            "UPDATE queues SET rules = ?, revision = ?, subscribed_until = ?, turn = ?, next_position = ? "
            "WHERE id = ?",
            (to_json(row.rules), row.revision, row.subscribed_until, row.turn, row.next_position, row.number),
        )  # fmt: skip
        self._changing[row.ref] = row

    def rename(self, db: apsw.Connection, row: QueueRow, former: QueueRef) -> None:
        """Store it under its present name, in place of the former one."""
        db.execute(
            "UPDATE queues SET project = ?, name = ?, came_by = ? WHERE id = ?",
            (row.ref.project, row.ref.name, row.came_by, row.number),
        )
        self._changing[former] = None
        self.change(db, row)

    def renumber(self, db: apsw.Connection, row: QueueRow) -> None:
        """Give the queue a new number: the sweep removes the messages of the former number."""
        self.remove(db, row)
        self.insert(db, msgspec.structs.replace(row, salt=new_salt()))

    def remove(self, db: apsw.Connection, row: QueueRow) -> None:
        db.execute("DELETE FROM queues WHERE id = ?", (row.number,))
        db.execute("INSERT INTO dropped_queues VALUES (?)", (row.number,))
        self._changing[row.ref] = None

    def _remember(self, ref: QueueRef, row: QueueRow | None) -> None:
        if len(self._committed) >= CACHED_HEADS:
            self._committed.clear()
        self._committed[ref] = row

    def _ended(self, committed: bool) -> None:
        if committed:
            for ref, row in self._changing.items():
                self._remember(ref, row)
        self._changing.clear()


def _row(
    ref: QueueRef, stored: tuple[int, bytes, str, int, int, int, int, str] | None
) -> QueueRow | None:
    if stored is None:
        return None
    number, salt, rules, revision, until, turn, behind, came_by = stored
    return QueueRow(ref, number, salt, from_json(rules), revision, until, turn, behind, came_by)
