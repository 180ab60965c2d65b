"""Tenant tokens in the SQLite file."""

from __future__ import annotations

from datetime import datetime

from zaqar_notify.models import Token
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import optional_instant, optional_ms
from zaqar_notify.storage.sqlite.statements import marks
from zaqar_notify.storage.tokens import Tokens
from zaqar_notify.storage.values import from_ms, to_ms

_COLUMNS = "id, digest, project, scope, queues, name, created_at, expires_at, last_used_at"
_SELECT = f"SELECT {_COLUMNS} FROM tokens"
_INSERT = f"INSERT INTO tokens ({_COLUMNS}) VALUES ({marks(9)})"
BY_DIGEST = f"{_SELECT} WHERE digest = ?"
_BY_ID = f"{_SELECT} WHERE id = ?"
ALL_TOKENS = f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?"
TOKENS_OF_PROJECT = (
    f"{_SELECT} INDEXED BY tokens_of_projects WHERE project = ? AND id > ? ORDER BY id LIMIT ?"
)
COUNT = "SELECT count(*) FROM tokens INDEXED BY tokens_of_projects WHERE project = ?"
EXPIRED = "DELETE FROM tokens INDEXED BY expiring_tokens WHERE expires_at <= ?"


class SQLiteTokens(Tokens):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, token: Token) -> None:
        row = (
            *(token.id, token.digest, token.project, token.scope, token.queues, token.name),
            to_ms(token.created_at),
            optional_ms(token.expires_at),
            optional_ms(token.last_used_at),
        )
        await self._database.write(lambda db: db.execute(_INSERT, row), grows=Grows.CLIENTS)

    async def find(self, digest: bytes) -> Token | None:
        row = self._database.read_one(BY_DIGEST, (digest,))
        return None if row is None else _token(row)

    async def get(self, token_id: str) -> Token | None:
        row = self._database.read_one(_BY_ID, (token_id,))
        return None if row is None else _token(row)

    async def list(self, project: str | None, *, marker: str | None, limit: int) -> list[Token]:
        after = (marker or "", limit)
        with self._database.errors:
            if project is None:
                rows = self._database.read(ALL_TOKENS, after)
            else:
                rows = self._database.read(TOKENS_OF_PROJECT, (project, *after))
            return [_token(row) for row in rows]

    async def count(self, project: str) -> int:
        row = self._database.read_one(COUNT, (project,))
        return 0 if row is None else row[0]

    async def remove(self, token_id: str) -> None:
        await self._database.write(
            lambda db: db.execute("DELETE FROM tokens WHERE id = ?", (token_id,))
        )

    async def remove_expired(self, *, now: datetime) -> None:
        await self._database.write(lambda db: db.execute(EXPIRED, (to_ms(now),)))

    async def note_use(self, token_id: str, *, now: datetime, last: datetime | None) -> None:
        bindings = (to_ms(now), token_id, optional_ms(last))
        await self._database.write(
            lambda db: db.execute(
                "UPDATE tokens SET last_used_at = ? WHERE id = ? AND last_used_at IS ?", bindings
            )
        )


def _token(row: Row) -> Token:
    return Token(
        id=row[0],
        digest=row[1],
        project=row[2],
        scope=row[3],
        queues=row[4],
        name=row[5],
        created_at=from_ms(row[6]),
        expires_at=optional_instant(row[7]),
        last_used_at=optional_instant(row[8]),
    )
