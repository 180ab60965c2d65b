"""Queues' records in the SQLite file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime

import apsw

from zaqar_notify.errors import QueueDoesNotExist
from zaqar_notify.models import JsonObject, Queue, QueueRef
from zaqar_notify.storage.control import (
    ALL_NAMES,
    Names,
    QueueRecord,
    QueueRecords,
    names_after,
)
from zaqar_notify.storage.matching import has_metadata
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.values import from_json, from_ms, to_json, to_ms

LOOKED_AT_BYTES = 1 << 18
"""Rows that a list looks at before other requests have a turn: some milliseconds."""
ROW_BYTES = 512
"""The size that a row counts beside its metadata."""

_RECORD_COLUMNS = "project, name, metadata, created_at, revision"
_RECORD = f"SELECT {_RECORD_COLUMNS} FROM records WHERE project = ? AND name = ?"
COUNT_OF_RECORDS = "SELECT count(*) FROM records WHERE project = ? AND name > ? AND name < ?"
UNAPPLIED = (
    f"SELECT {_RECORD_COLUMNS} FROM records INDEXED BY unapplied_records WHERE unapplied LIMIT ?"
)


class SQLiteQueueRecords(QueueRecords):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, ref: QueueRef) -> QueueRecord | None:
        row = self._database.read_one(_RECORD, (ref.project, ref.name))
        return None if row is None else _record(row)

    async def create(
        self, ref: QueueRef, *, metadata: JsonObject, now: datetime
    ) -> QueueRecord | None:
        if await self.get(ref) is not None:
            return None
        created = QueueRecord(Queue(ref, metadata, now), revision=1)

        def write(db: apsw.Connection) -> QueueRecord | None:
            db.execute(
                "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, 0)",
                (ref.project, ref.name, to_json(metadata), to_ms(now), created.revision),
            )
            return created if db.changes() else None

        return await self._database.write(write, grows=Grows.CLIENTS)

    async def update(
        self, ref: QueueRef, change: Callable[[JsonObject], JsonObject]
    ) -> QueueRecord:
        def write(db: apsw.Connection) -> QueueRecord:
            for row in db.execute(_RECORD, (ref.project, ref.name)):
                present = _record(row)
                metadata = change(present.queue.metadata)
                db.execute(
                    "UPDATE records SET metadata = ?, revision = revision + 1, unapplied = 1 "
                    "WHERE project = ? AND name = ?",
                    (to_json(metadata), ref.project, ref.name),
                )
                queue = Queue(ref, metadata, present.queue.created_at)
                return QueueRecord(queue, present.revision + 1)
            raise QueueDoesNotExist(ref.name)

        return await self._database.write(write)

    async def applied(self, ref: QueueRef, *, revision: int) -> None:
        await self._database.write(
            lambda db: db.execute(
                "UPDATE records SET unapplied = 0 WHERE project = ? AND name = ? AND revision = ?",
                (ref.project, ref.name, revision),
            )
        )

    async def unapplied(self, *, limit: int) -> Sequence[QueueRecord]:
        with self._database.errors:
            return [_record(row) for row in self._database.read(UNAPPLIED, (limit,))]

    async def raise_revision(self, ref: QueueRef, *, above: int) -> QueueRecord | None:
        def write(db: apsw.Connection) -> None:
            db.execute(
                "UPDATE records SET revision = max(revision, ?) WHERE project = ? AND name = ?",
                (above + 1, ref.project, ref.name),
            )

        await self._database.write(write)
        return await self.get(ref)

    async def remove(self, ref: QueueRef, *, revision: int) -> bool:
        def write(db: apsw.Connection) -> bool:
            db.execute(
                "DELETE FROM records WHERE project = ? AND name = ? AND revision = ?",
                (ref.project, ref.name, revision),
            )
            return bool(db.changes())

        return await self._database.write(write)

    async def list(
        self,
        project: str,
        *,
        marker: str | None,
        limit: int,
        name_contains: str = "",
        metadata_equals: JsonObject | None = None,
        topics: bool = False,
    ) -> list[Queue]:
        queues: list[Queue] = []
        names = names_after(marker, topics=topics)
        matching = self._matching(project, names, name_contains, metadata_equals)
        async with aclosing(matching):
            async for name, metadata, created_at in matching:
                ref = QueueRef(project, name)
                queues.append(Queue(ref, from_json(metadata), from_ms(created_at)))
                if len(queues) == limit:
                    break
        return queues

    async def count(
        self, project: str, *, name_contains: str = "", metadata_equals: JsonObject | None = None
    ) -> int:
        names = names_after(None, topics=False)
        if not name_contains and not metadata_equals:
            return self._count(project, names)
        count = 0
        matching = self._matching(project, names, name_contains, metadata_equals)
        async with aclosing(matching):
            async for _ in matching:
                count += 1
        return count

    async def count_all(self, project: str) -> int:
        return self._count(project, ALL_NAMES)

    def _count(self, project: str, names: Names) -> int:
        row = self._database.read_one(COUNT_OF_RECORDS, (project, *names))
        return 0 if row is None else int(row[0])

    async def _matching(
        self, project: str, names: Names, name_contains: str, wanted: JsonObject | None
    ) -> AsyncGenerator[tuple[str, str, int], None]:
        """Rows by name: name, metadata, created_at."""
        looked_at = 0
        with self._database.errors:
            rows = self._database.read(
                "SELECT name, metadata, created_at FROM records "
                "WHERE project = ? AND name > ? AND name < ? AND instr(name, ?) ORDER BY name",
                (project, *names, name_contains),
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


def _record(row: tuple[str, str, str, int, int]) -> QueueRecord:
    project, name, metadata, created_at, revision = row
    queue = Queue(QueueRef(project, name), from_json(metadata), from_ms(created_at))
    return QueueRecord(queue, revision)
