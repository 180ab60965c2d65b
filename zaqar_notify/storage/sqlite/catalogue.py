"""The catalogue in the SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.catalogue import Catalogue, Entry
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import optional_instant, optional_ms
from zaqar_notify.storage.values import to_ms

POOL = "SELECT pool FROM catalogue WHERE project = ? AND queue = ?"
_PLACE = (
    "INSERT INTO catalogue (project, queue, pool, doubted_at) VALUES (?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET doubted_at = excluded.doubted_at RETURNING pool"
)
_OF_ENTRY = "WHERE project = ? AND queue = ? AND doubted_at IS ?"
DOUBTED = (
    "SELECT project, queue, pool, doubted_at FROM catalogue INDEXED BY doubted_entries "
    "WHERE doubted_at < ? ORDER BY doubted_at LIMIT ?"
)
OF_POOL = (
    "SELECT project, queue FROM catalogue INDEXED BY entries_of_pools "
    "WHERE pool = ? AND (project, queue) > (?, ?) ORDER BY project, queue LIMIT ?"
)


class SQLiteCatalogue(Catalogue):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, ref: QueueRef) -> str | None:
        row = self._database.read_one(POOL, (ref.project, ref.name))
        return None if row is None else row[0]

    async def place(self, ref: QueueRef, pool: str, *, now: datetime) -> str:
        def write(db: apsw.Connection) -> str:
            [(stored,)] = db.execute(_PLACE, (ref.project, ref.name, pool, to_ms(now)))
            return str(stored)

        return await self._database.write(write, grows=Grows.CLIENTS)

    async def move(
        self, ref: QueueRef, source: str, target: str, *, attempt: str | None = None
    ) -> bool:
        return await self._change("pool = ?, attempt = ''", target, ref, source, attempt)

    async def let(self, ref: QueueRef, pool: str, attempt: str) -> bool:
        return await self._change("attempt = ?", attempt, ref, pool, None)

    async def _change(
        self, changes: str, value: str, ref: QueueRef, pool: str, attempt: str | None
    ) -> bool:
        """Make the changes, with this value, if the queue is on the pool; whether it was."""

        def write(db: apsw.Connection) -> bool:
            db.execute(
                f"UPDATE catalogue SET {changes} "
                "WHERE project = ? AND queue = ? AND pool = ? AND attempt = coalesce(?, attempt)",
                (value, ref.project, ref.name, pool, attempt),
            )
            return bool(db.changes())

        return await self._database.write(write)

    async def doubt(self, ref: QueueRef, *, now: datetime) -> None:
        await self._write(
            "UPDATE catalogue SET doubted_at = ? WHERE project = ? AND queue = ?",
            (to_ms(now), ref.project, ref.name),
        )

    async def doubted(self, *, before: datetime, limit: int) -> Sequence[Entry]:
        with self._database.errors:
            rows = self._database.read(DOUBTED, (to_ms(before), limit))
            return [
                Entry(QueueRef(row[0], row[1]), row[2], optional_instant(row[3])) for row in rows
            ]

    async def believe(self, entry: Entry) -> None:
        await self._write(f"UPDATE catalogue SET doubted_at = NULL {_OF_ENTRY}", _key(entry))

    async def remove(self, entry: Entry) -> None:
        await self._write(f"DELETE FROM catalogue {_OF_ENTRY}", _key(entry))

    async def of_pool(self, pool: str, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        first = ("", "") if after is None else (after.project, after.name)
        with self._database.errors:
            rows = self._database.read(OF_POOL, (pool, *first, limit))
            return [QueueRef(*row) for row in rows]

    async def _write(self, statement: str, bindings: tuple[str | int | None, ...]) -> None:
        await self._database.write(lambda db: db.execute(statement, bindings))


def _key(entry: Entry) -> tuple[str | int | None, ...]:
    return (entry.ref.project, entry.ref.name, optional_ms(entry.doubted_at))
