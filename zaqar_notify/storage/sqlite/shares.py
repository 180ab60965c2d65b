"""Revocations of pre-signed URLs in the SQLite file."""

from __future__ import annotations

from datetime import datetime

import apsw

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.shares import MOST_RECORDS, Shares
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.values import to_ms

ALL_QUEUES = ""
"""In place of a queue's name; no queue has it."""
GENERATION = "SELECT max(generation) FROM shares WHERE project = ? AND queue IN (?, ?)"
_REVOKE = "INSERT OR REPLACE INTO shares (project, queue, generation) VALUES (?, ?, ?)"
OF_PROJECT = "SELECT count(*), max(generation) FROM shares WHERE project = ?"


class SQLiteShares(Shares):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def generation(self, ref: QueueRef) -> int:
        row = self._database.read_one(GENERATION, (ref.project, ref.name, ALL_QUEUES))
        return 0 if row is None else row[0] or 0

    async def revoke(self, ref: QueueRef, *, now: datetime) -> None:
        def write(db: apsw.Connection) -> None:
            [(last,)] = db.execute(GENERATION, (ref.project, ref.name, ALL_QUEUES))
            db.execute(_REVOKE, (ref.project, ref.name, max(to_ms(now), (last or 0) + 1)))
            [(count, latest)] = db.execute(OF_PROJECT, (ref.project,))
            if count > MOST_RECORDS:
                db.execute("DELETE FROM shares WHERE project = ?", (ref.project,))
                db.execute(_REVOKE, (ref.project, ALL_QUEUES, latest + 1))

        await self._database.write(write, grows=Grows.CLIENTS)
