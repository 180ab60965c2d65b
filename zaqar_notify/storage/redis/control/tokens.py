"""Tenant tokens in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import Scope, Token
from zaqar_notify.storage.redis.control.writing import AT_ONCE, Check, Command, Writing
from zaqar_notify.storage.tokens import Tokens
from zaqar_notify.storage.values import from_ms, to_ms


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """The fields of `Token` but for its id; instants in ms."""

    digest: bytes
    project: str | None
    scope: Scope
    queues: str | None
    name: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None


class RedisTokens(Tokens):
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._tokens = writing.key("tokens")
        self._digests = writing.key("digests")
        self._ids = writing.key("token-ids")
        self._ends = writing.key("token-ends")

    async def create(self, token: Token) -> None:
        stored = _to_stored(token)
        commands: list[Command] = [
            ("HSET", self._tokens, token.id, _encode(stored)),
            ("HSET", self._digests, token.digest.hex(), token.id),
            *(("ZADD", ids, 0, token.id) for ids in self._all_ids(stored)),
        ]
        if stored.expires_at is not None:
            commands.append(("ZADD", self._ends, stored.expires_at, token.id))
        await self._writing.write([], commands)

    async def find(self, digest: bytes) -> Token | None:
        token_id = await self._writing.get(self._digests, digest.hex())
        return None if token_id is None else await self.get(token_id.decode())

    async def get(self, token_id: str) -> Token | None:
        found = await self._writing.get(self._tokens, token_id)
        return None if found is None else _to_token(token_id, _decode(found))

    async def list(self, project: str | None, *, marker: str | None, limit: int) -> list[Token]:
        ids = self._ids if project is None else self._ids_of(project)
        names = await self._writing.names(ids, marker or "", None, limit)
        found = await self._writing.get_many(self._tokens, names)
        return [
            _to_token(name, _decode(one))
            for name, one in zip(names, found, strict=True)
            if one is not None
        ]

    async def count(self, project: str) -> int:
        return int(await self._writing.ask("ZCARD", self._ids_of(project)))

    async def remove(self, token_id: str) -> None:
        await self._change(token_id, self._removal)

    async def remove_expired(self, *, now: datetime) -> None:
        while ended := await self._writing.due(self._ends, to_ms(now), AT_ONCE):
            for token_id in ended:
                await self.remove(token_id)

    async def note_use(self, token_id: str, *, now: datetime, last: datetime | None) -> None:
        def note(token_id: str, present: Stored) -> Sequence[Command]:
            if present.last_used_at != _ms_or_none(last):
                return []
            used = msgspec.structs.replace(present, last_used_at=to_ms(now))
            return [("HSET", self._tokens, token_id, _encode(used))]

        await self._change(token_id, note)

    async def _change(
        self, token_id: str, commands_for: Callable[[str, Stored], Sequence[Command]]
    ) -> None:
        """Run the commands for a token, atomically, if there is the token."""
        while (present := await self._writing.get(self._tokens, token_id)) is not None:
            commands = commands_for(token_id, _decode(present))
            check = Check(self._tokens, token_id, present)
            if not commands or await self._writing.write([check], commands):
                return

    def _removal(self, token_id: str, stored: Stored) -> Sequence[Command]:
        return [
            ("HDEL", self._tokens, token_id),
            ("HDEL", self._digests, stored.digest.hex()),
            *(("ZREM", ids, token_id) for ids in (*self._all_ids(stored), self._ends)),
        ]

    def _all_ids(self, stored: Stored) -> Sequence[str]:
        return [self._ids, *([] if stored.project is None else [self._ids_of(stored.project)])]

    def _ids_of(self, project: str) -> str:
        return self._writing.key("token-ids-of", project)


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Stored).decode


def _to_stored(token: Token) -> Stored:
    return Stored(
        token.digest,
        token.project,
        token.scope,
        token.queues,
        token.name,
        to_ms(token.created_at),
        _ms_or_none(token.expires_at),
        _ms_or_none(token.last_used_at),
    )


def _to_token(token_id: str, stored: Stored) -> Token:
    return Token(
        id=token_id,
        digest=stored.digest,
        project=stored.project,
        scope=stored.scope,
        queues=stored.queues,
        name=stored.name,
        created_at=from_ms(stored.created_at),
        expires_at=None if stored.expires_at is None else from_ms(stored.expires_at),
        last_used_at=None if stored.last_used_at is None else from_ms(stored.last_used_at),
    )


def _ms_or_none(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)
