"""Projects' own quotas in the SQLite file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import apsw

from zaqar_notify.storage.quotas import QuotaRecords, Values
from zaqar_notify.storage.sqlite.database import Database

_OF_PROJECT = "SELECT name, value FROM quotas WHERE project = ?"


class SQLiteQuotaRecords(QuotaRecords):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, project: str) -> Values:
        with self._database.errors:
            return dict(self._database.read(_OF_PROJECT, (project,)))

    async def change(self, project: str, values: Mapping[str, int | None]) -> Values:
        def write(db: apsw.Connection) -> Values:
            for name, value in values.items():
                if value is None:
                    db.execute("DELETE FROM quotas WHERE project = ? AND name = ?", (project, name))
                else:
                    db.execute(
                        "INSERT OR REPLACE INTO quotas VALUES (?, ?, ?)", (project, name, value)
                    )
            db.execute("UPDATE quota_changes SET revision = revision + 1")
            return dict(db.execute(_OF_PROJECT, (project,)))

        return await self._database.write(write)

    async def revision(self) -> int:
        row = self._database.read_one("SELECT revision FROM quota_changes")
        return 0 if row is None else int(row[0])

    async def all(self) -> Mapping[str, Values]:
        found: defaultdict[str, dict[str, int]] = defaultdict(dict)
        with self._database.errors:
            for project, name, value in self._database.read(
                "SELECT project, name, value FROM quotas"
            ):
                found[project][name] = value
        return found
