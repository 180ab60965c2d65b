"""Revocations of pre-signed URLs in the SQLite file."""

from __future__ import annotations

from datetime import datetime

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.shares import Shares
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.values import to_ms

GENERATION = "SELECT generation FROM shares WHERE project = ? AND queue = ?"
_REVOKE = """
INSERT INTO shares (project, queue, generation) VALUES (?, ?, ?)
ON CONFLICT (project, queue) DO UPDATE SET generation = max(generation + 1, excluded.generation)
RETURNING generation
"""


class SQLiteShares(Shares):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def generation(self, ref: QueueRef) -> int:
        row = self._database.read_one(GENERATION, (ref.project, ref.name))
        return 0 if row is None else int(row[0])

    async def revoke(self, ref: QueueRef, *, now: datetime) -> int:
        def write(db: apsw.Connection) -> int:
            [(generation,)] = db.execute(_REVOKE, (ref.project, ref.name, to_ms(now)))
            return int(generation)

        return await self._database.write(write, grows=Grows.CLIENTS)
