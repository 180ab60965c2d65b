"""The catalogue in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.catalogue import Catalogue, Entry
from zaqar_notify.storage.redis.control.writing import Check, Command, Writing, name_of, ref_of
from zaqar_notify.storage.values import from_ms, to_ms


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """`doubted_at` in ms; `attempt` of a move that may change the pool."""

    pool: str
    doubted_at: int | None
    attempt: str = ""


class RedisCatalogue(Catalogue):
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._entries = writing.key("catalogue")
        self._doubted = writing.key("doubted")

    async def get(self, ref: QueueRef) -> str | None:
        found = await self._writing.get(self._entries, name_of(ref))
        return None if found is None else _decode(found).pool

    async def place(self, ref: QueueRef, pool: str, *, now: datetime) -> str:
        placed = await self._change(
            ref, lambda found: _doubted(Stored(pool, None) if found is None else found, now)
        )
        return pool if placed is None else placed.pool

    async def move(
        self, ref: QueueRef, source: str, target: str, *, attempt: str | None = None
    ) -> bool:
        return await self._change_on(
            ref,
            lambda found: found.pool == source and attempt in {None, found.attempt},
            lambda found: Stored(target, found.doubted_at),
        )

    async def let(self, ref: QueueRef, pool: str, attempt: str) -> bool:
        return await self._change_on(
            ref,
            lambda found: found.pool == pool,
            lambda found: msgspec.structs.replace(found, attempt=attempt),
        )

    async def _change_on(
        self,
        ref: QueueRef,
        condition: Callable[[Stored], bool],
        change: Callable[[Stored], Stored],
    ) -> bool:
        """Change an entry that fulfils the condition; whether it did."""
        does = False

        def changed(found: Stored | None) -> Stored | None:
            nonlocal does
            does = found is not None and condition(found)
            return change(found) if found is not None and does else found

        await self._change(ref, changed)
        return does

    async def doubt(self, ref: QueueRef, *, now: datetime) -> None:
        await self._change(ref, lambda found: found and _doubted(found, now))

    async def doubted(self, *, before: datetime, limit: int) -> Sequence[Entry]:
        names = await self._writing.due(self._doubted, to_ms(before) - 1, limit)
        found = await self._writing.get_many(self._entries, names)
        return [
            _entry(ref_of(name), _decode(one))
            for name, one in zip(names, found, strict=True)
            if one is not None
        ]

    async def believe(self, entry: Entry) -> None:
        await self._end(entry, lambda found: _doubted(found, None))

    async def remove(self, entry: Entry) -> None:
        await self._end(entry, lambda _: None)

    async def of_pool(self, pool: str, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        begin = "" if after is None else name_of(after)
        names = await self._writing.names(self._of(pool), begin, None, limit)
        return [ref_of(name) for name in names]

    async def _end(self, entry: Entry, end: Callable[[Stored], Stored | None]) -> None:
        """Change an entry if it was not doubted anew."""
        doubted_at = None if entry.doubted_at is None else to_ms(entry.doubted_at)

        def ended(found: Stored | None) -> Stored | None:
            return end(found) if found is not None and found.doubted_at == doubted_at else found

        await self._change(entry.ref, ended)

    async def _change(
        self, ref: QueueRef, change: Callable[[Stored | None], Stored | None]
    ) -> Stored | None:
        """Replace the entry by `change(it)`, atomically, and return what is stored then."""
        name = name_of(ref)
        while True:
            present = await self._writing.get(self._entries, name)
            before = None if present is None else _decode(present)
            after = change(before)
            if after == before:
                return before
            checks = [Check(self._entries, name, present)]
            if await self._writing.write(checks, self._commands(name, before, after)):
                return after

    def _commands(self, name: str, before: Stored | None, after: Stored | None) -> list[Command]:
        commands: list[Command] = [("ZREM", self._doubted, name)]
        if before is not None:
            commands.append(("ZREM", self._of(before.pool), name))
        if after is None:
            return [*commands, ("HDEL", self._entries, name)]
        commands.append(("HSET", self._entries, name, msgspec.msgpack.encode(after)))
        commands.append(("ZADD", self._of(after.pool), 0, name))
        if after.doubted_at is not None:
            commands.append(("ZADD", self._doubted, after.doubted_at, name))
        return commands

    def _of(self, pool: str) -> str:
        return self._writing.key("pool", pool)


def _doubted(stored: Stored, now: datetime | None) -> Stored:
    return msgspec.structs.replace(stored, doubted_at=None if now is None else to_ms(now))


_decode = msgspec.msgpack.Decoder(Stored).decode


def _entry(ref: QueueRef, stored: Stored) -> Entry:
    return Entry(
        ref, stored.pool, None if stored.doubted_at is None else from_ms(stored.doubted_at)
    )
