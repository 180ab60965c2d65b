"""Suppressed addresses in the SQLite file."""

from __future__ import annotations

from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.statements import marks
from zaqar_notify.storage.suppressions import Suppression, Suppressions
from zaqar_notify.storage.values import from_ms, to_ms

_COLUMNS = "id, subscriber, queue, subscription_id, suppressed_at"
_INSERT = f"INSERT OR IGNORE INTO suppressions (project, {_COLUMNS}) VALUES ({marks(6)})"
BY_ID = f"SELECT {_COLUMNS} FROM suppressions WHERE project = ? AND id = ?"
OF_PROJECT = f"SELECT {_COLUMNS} FROM suppressions WHERE project = ? AND id > ? ORDER BY id LIMIT ?"
_REMOVE = "DELETE FROM suppressions WHERE project = ? AND id = ?"


class SQLiteSuppressions(Suppressions):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, project: str, suppression: Suppression) -> None:
        row = (
            *(project, suppression.id, suppression.subscriber),
            *(suppression.queue, suppression.subscription_id),
            to_ms(suppression.suppressed_at),
        )
        await self._database.write(lambda db: db.execute(_INSERT, row), grows=Grows.CLIENTS)

    async def get(self, project: str, suppression_id: str) -> Suppression | None:
        row = self._database.read_one(BY_ID, (project, suppression_id))
        return None if row is None else _suppression(row)

    async def list(self, project: str, *, marker: str | None, limit: int) -> list[Suppression]:
        with self._database.errors:
            rows = self._database.read(OF_PROJECT, (project, marker or "", limit))
            return [_suppression(row) for row in rows]

    async def remove(self, project: str, suppression_id: str) -> None:
        await self._database.write(lambda db: db.execute(_REMOVE, (project, suppression_id)))


def _suppression(row: Row) -> Suppression:
    return Suppression(row[0], row[1], row[2], row[3], from_ms(row[4]))
