"""Pools and flavors in the SQLite file."""

from __future__ import annotations

import apsw

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.pools import Document, Pools
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.reserve import Grows

CONTENT = "SELECT content FROM pools"


class SQLitePools(Pools):
    def __init__(self, database: Database, keys: Keyring) -> None:
        super().__init__(keys)
        self._database = database

    async def load(self) -> Document:
        row = self._database.read_one("SELECT revision, content FROM pools")
        return Document(0, b"") if row is None else Document(row[0], row[1])

    async def replace(self, content: bytes, *, revision: int) -> bool:
        def write(db: apsw.Connection) -> bool:
            db.execute(
                "UPDATE pools SET revision = revision + 1, content = ? WHERE revision = ?",
                (content, revision),
            )
            return bool(db.changes())

        return await self._database.write(write, grows=Grows.CLIENTS)
