"""Queues: their records, and the number under which the message tables know each."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime

import apsw
import msgspec

from zaqar_notify.errors import QueueDoesNotExist
from zaqar_notify.models import Document, OldestNewest, Queue, QueueRef, QueueStats
from zaqar_notify.storage.base import QueueStore
from zaqar_notify.storage.ids import new_salt
from zaqar_notify.storage.matching import has_metadata
from zaqar_notify.storage.sqlite.cancelling import cancel_all
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import from_json, from_ms, to_id, to_json, to_ms

CACHED_QUEUES = 10_000
CACHED_METADATA_BYTES = 8 << 20
"""As JSON; parsed it takes some ten times as much memory."""
LOOKED_AT_BYTES = 1 << 18
"""Rows that a list looks at before other requests have a turn: some milliseconds."""
ROW_BYTES = 512
"""What a row counts beside its metadata."""

_SELECT = "SELECT id, salt, metadata, created_at FROM queues WHERE project = ? AND name = ?"


class Record(msgspec.Struct, frozen=True):
    """A queue with its number, and what its ids end with."""

    number: int
    salt: bytes
    queue: Queue
    metadata_bytes: int


_OF_PREFIX = "WHERE q.project = ? AND q.name >= ? AND q.name < ?"
COUNTS_BY_PREFIX = (
    "SELECT count(*) FROM queues q CROSS JOIN messages m INDEXED BY free_messages "
    f"ON m.queue = q.id AND m.held_until IS NULL {_OF_PREFIX}",
    "SELECT count(*) FROM queues q CROSS JOIN messages m INDEXED BY held_messages "
    f"ON m.queue = q.id AND m.held_until IS NOT NULL {_OF_PREFIX}",
    "SELECT count(*) FROM removals r CROSS JOIN messages m USING (serial) "
    f"CROSS JOIN queues q ON q.id = m.queue {_OF_PREFIX}",
)
"""Free and held messages, and those of them that are deleted and not taken out yet."""


class Records:
    """The queues' rows, cached: this process is the only one that changes them.

    Readers see what is committed; a write also sees what its own transaction changed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._committed: dict[QueueRef, Record | None] = {}
        self._committed_bytes = 0
        self._changing: dict[QueueRef, Record | None] = {}
        database.after_end.append(self._ended)

    def get(self, ref: QueueRef) -> Record | None:
        """For readers."""
        self._database.check_open()
        if ref in self._committed:
            return self._committed[ref]
        record = _record(ref, self._database.read_one(_SELECT, (ref.project, ref.name)))
        if ref not in self._changing:
            self._remember(ref, record)
        return record

    def find(self, db: apsw.Connection, ref: QueueRef) -> Record | None:
        """For writes."""
        if ref in self._changing:
            return self._changing[ref]
        if ref in self._committed:
            return self._committed[ref]
        record = _record(ref, next(db.execute(_SELECT, (ref.project, ref.name)), None))
        self._remember(ref, record)
        return record

    def ref(self, db: apsw.Connection, number: int) -> QueueRef | None:
        """For writes: which queue has this number; None when it was deleted or purged."""
        for project, name in db.execute("SELECT project, name FROM queues WHERE id = ?", (number,)):
            return QueueRef(project, name)
        return None

    def ensure(self, db: apsw.Connection, ref: QueueRef, now: int) -> Record:
        """For writes: the record, made with empty metadata when absent."""
        return self.find(db, ref) or self.insert(db, ref, {}, now)

    def insert(self, db: apsw.Connection, ref: QueueRef, metadata: Document, now: int) -> Record:
        text, salt = to_json(metadata), new_salt()
        db.execute(
            "INSERT INTO queues (project, name, salt, metadata, created_at) VALUES (?, ?, ?, ?, ?)",
            (ref.project, ref.name, salt, text, now),
        )
        queue = Queue(ref, metadata, from_ms(now))
        record = Record(db.last_insert_rowid(), salt, queue, len(text))
        self._changing[ref] = record
        return record

    def replace(self, db: apsw.Connection, record: Record, metadata: Document) -> None:
        queue, text = record.queue, to_json(metadata)
        db.execute("UPDATE queues SET metadata = ? WHERE id = ?", (text, record.number))
        changed = Queue(queue.ref, metadata, queue.created_at)
        self._changing[queue.ref] = Record(record.number, record.salt, changed, len(text))

    def renumber(self, db: apsw.Connection, record: Record) -> None:
        """Leave all messages behind: the sweep removes what belongs to the former number."""
        self.remove(db, record)
        self.insert(db, record.queue.ref, record.queue.metadata, to_ms(record.queue.created_at))

    def remove(self, db: apsw.Connection, record: Record) -> None:
        db.execute("DELETE FROM queues WHERE id = ?", (record.number,))
        db.execute("INSERT INTO dropped_queues VALUES (?)", (record.number,))
        self._changing[record.queue.ref] = None

    def _remember(self, ref: QueueRef, record: Record | None) -> None:
        self._committed_bytes -= _bytes(self._committed.pop(ref, None))
        is_full = self._committed_bytes + _bytes(record) > CACHED_METADATA_BYTES
        if is_full or len(self._committed) >= CACHED_QUEUES:
            self._committed.clear()
            self._committed_bytes = 0
        self._committed[ref] = record
        self._committed_bytes += _bytes(record)

    def _ended(self, committed: bool) -> None:
        if committed:
            for ref, record in self._changing.items():
                self._remember(ref, record)
        self._changing.clear()


class SQLiteQueues(QueueStore):
    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    async def get(self, ref: QueueRef) -> Queue | None:
        record = self._records.get(ref)
        return None if record is None else record.queue

    async def create(self, ref: QueueRef, *, metadata: Document, now: datetime) -> bool:
        if self._records.get(ref) is not None:
            return False

        def write(db: apsw.Connection) -> bool:
            if self._records.find(db, ref) is not None:
                return False
            self._records.insert(db, ref, metadata, to_ms(now))
            return True

        return await self._database.write(write, grows=Grows.CLIENTS)

    async def update(self, ref: QueueRef, change: Callable[[Document], Document]) -> Document:
        def write(db: apsw.Connection) -> Document:
            record = self._records.find(db, ref)
            if record is None:
                raise QueueDoesNotExist(ref.name)
            metadata = change(copy.deepcopy(record.queue.metadata))
            self._records.replace(db, record, metadata)
            return metadata

        return await self._database.write(write)

    async def delete(self, ref: QueueRef, *, now: datetime) -> None:
        def write(db: apsw.Connection) -> None:
            record = self._records.find(db, ref)
            if record is not None:
                cancel_all(db, ref, record.number, record.salt, to_ms(now))
                self._records.remove(db, record)

        await self._database.write(write)

    async def list(
        self,
        project: str,
        *,
        marker: str | None,
        limit: int,
        name_contains: str = "",
        metadata_equals: Document | None = None,
    ) -> list[Queue]:
        queues: list[Queue] = []
        matching = self._matching(project, marker or "", name_contains, metadata_equals)
        async with aclosing(matching):
            async for name, metadata, created_at in matching:
                ref = QueueRef(project, name)
                queues.append(Queue(ref, from_json(metadata), from_ms(created_at)))
                if len(queues) == limit:
                    break
        return queues

    async def count(
        self, project: str, *, name_contains: str = "", metadata_equals: Document | None = None
    ) -> int:
        count = 0
        matching = self._matching(project, "", name_contains, metadata_equals)
        async with aclosing(matching):
            async for _ in matching:
                count += 1
        return count

    async def stats(self, ref: QueueRef, *, now: datetime) -> QueueStats:
        record = self._records.get(ref)
        if record is None:
            return QueueStats(claimed=0, free=0)
        return await self._database.read_slowly(lambda db: _stats(db, record, to_ms(now)))

    async def count_messages(self, project: str, *, prefix: str) -> int:
        bindings = (project, prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))

        def count(db: apsw.Connection) -> int:
            db.execute("BEGIN")  # One snapshot; the connection is closed after this.
            free, held, removed = (db.execute(each, bindings).get for each in COUNTS_BY_PREFIX)
            remaining: int = free + held - removed
            return remaining

        return await self._database.read_slowly(count)

    async def _matching(
        self, project: str, marker: str, name_contains: str, wanted: Document | None
    ) -> AsyncGenerator[tuple[str, str, int], None]:
        """Rows by name: name, metadata, created_at."""
        looked_at = 0
        with self._database.errors:
            rows = self._database.read(
                "SELECT name, metadata, created_at FROM queues "
                "WHERE project = ? AND name > ? AND instr(name, ?) ORDER BY name",
                (project, marker, name_contains),
            )
            try:
                for name, metadata, created_at in rows:
                    if not wanted or has_metadata(from_json(metadata), wanted):
                        yield name, metadata, created_at
                    looked_at += ROW_BYTES + len(metadata)
                    if looked_at > LOOKED_AT_BYTES:
                        looked_at = 0
                        await asyncio.sleep(0)
            finally:
                rows.close()


def _record(ref: QueueRef, row: Row | None) -> Record | None:
    if row is None:
        return None
    number, salt, metadata, created_at = row
    queue = Queue(ref, from_json(metadata), from_ms(created_at))
    return Record(number, salt, queue, len(metadata))


def _bytes(record: Record | None) -> int:
    return 0 if record is None else record.metadata_bytes


def _stats(db: apsw.Connection, record: Record, now: int) -> QueueStats:
    """Counts from the indexes alone; what has expired or lapsed unswept is little, and looked at."""

    def one(statement: str, *bindings: int) -> int:
        value: int = db.execute(statement, bindings).get
        return value

    number = record.number
    db.execute("BEGIN")  # One snapshot; the connection is closed after this.
    claimed = one(
        "SELECT count(*) FROM messages INDEXED BY claimed_messages WHERE queue = ? AND claim IS NOT NULL",
        number,
    )
    free = one(
        "SELECT count(*) FROM messages INDEXED BY free_messages WHERE queue = ? AND held_until IS NULL",
        number,
    ) + one(
        "SELECT count(*) FROM messages INDEXED BY delayed_messages "
        "WHERE queue = ? AND held_until IS NOT NULL AND claim IS NULL",
        number,
    )
    lapsed = one(
        "SELECT count(*) FROM messages INDEXED BY held_messages "
        "WHERE queue = ? AND held_until <= ? AND claim IS NOT NULL",
        number,
        now,
    )
    free_again = one(
        "SELECT count(*) FROM messages INDEXED BY held_messages "
        "WHERE queue = ? AND held_until <= ? AND claim IS NOT NULL AND expires_at > ?",
        number,
        now,
        now,
    )
    expired = one(
        "SELECT count(*) FROM messages INDEXED BY expiring_messages "
        "WHERE claim IS NULL AND expires_at <= ? AND queue = ?",
        now,
        number,
    )
    removed: dict[int, int] = dict(
        db.execute(
            "SELECT m.claim IS NOT NULL AND m.held_until > :now, count(*) FROM removals "
            "CROSS JOIN messages m USING (serial) "
            "WHERE m.queue = :queue AND m.expires_at > :now GROUP BY 1",
            {"queue": number, "now": now},
        )
    )
    return QueueStats(
        claimed=claimed - lapsed - removed.get(1, 0),
        free=free + free_again - expired - removed.get(0, 0),
        oldest=_end(db, record, now, "ASC"),
        newest=_end(db, record, now, "DESC"),
    )


def _end(db: apsw.Connection, record: Record, now: int, direction: str) -> OldestNewest | None:
    """The first or last message that is not delayed."""
    ends = []
    for index, state in (
        ("free_messages", "held_until IS NULL"),
        ("claimed_messages", "claim IS NOT NULL"),
        ("delayed_messages", "held_until IS NOT NULL AND claim IS NULL AND held_until <= :now"),
    ):
        row = next(
            db.execute(
                f"SELECT position, moved_id, posted_at FROM messages INDEXED BY {index} "
                f"WHERE queue = :queue AND {state} AND expires_at > :now "
                "AND serial NOT IN (SELECT serial FROM removals) "
                f"ORDER BY position {direction} LIMIT 1",
                {"queue": record.number, "now": now},
            ),
            None,
        )
        if row is not None:
            ends.append(row)
    if not ends:
        return None
    position, moved_id, posted_at = min(ends) if direction == "ASC" else max(ends)
    return OldestNewest(moved_id or to_id(position, record.salt), from_ms(posted_at))
