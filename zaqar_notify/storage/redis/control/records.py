"""Queues' records in Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime

import msgspec

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
from zaqar_notify.storage.redis.control.writing import (
    AT_ONCE,
    Check,
    Command,
    Writing,
    name_of,
    ref_of,
)
from zaqar_notify.storage.values import from_json, from_ms, to_json, to_ms


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """`metadata` is JSON text; `created_at` in ms."""

    metadata: str
    created_at: int
    revision: int
    is_unapplied: bool = False


class RedisQueueRecords(QueueRecords):
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._records = writing.key("records")
        self._names = writing.key("names")
        self._unapplied = writing.key("unapplied")

    async def get(self, ref: QueueRef) -> QueueRecord | None:
        found = await self._read(ref)
        return None if found is None else _record(ref, _decode(found))

    async def create(
        self, ref: QueueRef, *, metadata: JsonObject, now: datetime
    ) -> QueueRecord | None:
        created = Stored(to_json(metadata), to_ms(now), revision=1)
        is_made = await self._replace(ref, None, created)
        return _record(ref, created) if is_made else None

    async def update(
        self, ref: QueueRef, change: Callable[[JsonObject], JsonObject]
    ) -> QueueRecord:
        def changed(present: Stored) -> Stored:
            return msgspec.structs.replace(
                present,
                metadata=to_json(change(from_json(present.metadata))),
                revision=present.revision + 1,
                is_unapplied=True,
            )

        record = await self._change(ref, changed)
        if record is None:
            raise QueueDoesNotExist(ref.name)
        return record

    async def applied(self, ref: QueueRef, *, revision: int) -> None:
        def changed(present: Stored) -> Stored:
            is_unapplied = present.is_unapplied and present.revision != revision
            return msgspec.structs.replace(present, is_unapplied=is_unapplied)

        await self._change(ref, changed)

    async def unapplied(self, *, limit: int) -> Sequence[QueueRecord]:
        found = await self._writing.ask("ZRANGE", self._unapplied, 0, limit - 1)
        return await self._records_of([name.decode() for name in found])

    async def raise_revision(self, ref: QueueRef, *, above: int) -> QueueRecord | None:
        def changed(present: Stored) -> Stored:
            return msgspec.structs.replace(present, revision=max(present.revision, above + 1))

        return await self._change(ref, changed)

    async def remove(self, ref: QueueRef, *, revision: int) -> bool:
        name = name_of(ref)
        while (present := await self._read(ref)) is not None:
            if _decode(present).revision != revision:
                return False
            sets = (self._names, self._unapplied)
            commands: list[Command] = [("HDEL", self._records, name)]
            commands += [("ZREM", each, name) for each in sets]
            if await self._writing.write([Check(self._records, name, present)], commands):
                return True
        return False

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
        at_once = limit if not name_contains and not metadata_equals else AT_ONCE
        matching = self._matching(project, names, at_once, name_contains, metadata_equals)
        async with aclosing(matching):
            async for queue in matching:
                queues.append(queue)
                if len(queues) == limit:
                    break
        return queues

    async def count(
        self, project: str, *, name_contains: str = "", metadata_equals: JsonObject | None = None
    ) -> int:
        names = names_after(None, topics=False)
        if not name_contains and not metadata_equals:
            return await self._count(project, names)
        matching = self._matching(project, names, AT_ONCE, name_contains, metadata_equals)
        return len([queue async for queue in matching])

    async def count_all(self, project: str) -> int:
        return await self._count(project, ALL_NAMES)

    async def _count(self, project: str, names: Names) -> int:
        after, before = (f"({project}\0{name}" for name in names)
        return int(await self._writing.ask("ZLEXCOUNT", self._names, after, before))

    async def _matching(
        self,
        project: str,
        names: Names,
        at_once: int,
        name_contains: str,
        wanted: JsonObject | None,
    ) -> AsyncGenerator[Queue, None]:
        after, before = (f"{project}\0{name}" for name in names)
        while found := await self._writing.names(self._names, after, before, at_once):
            after = found[-1]
            some = [name for name in found if name_contains in ref_of(name).name]
            for record in await self._records_of(some):
                if not wanted or has_metadata(record.queue.metadata, wanted):
                    yield record.queue
            if len(found) < at_once:
                return

    async def _records_of(self, names: Sequence[str]) -> Sequence[QueueRecord]:
        """The records of those names that are still there."""
        found = await self._writing.get_many(self._records, names)
        return [
            _record(ref_of(name), _decode(one))
            for name, one in zip(names, found, strict=True)
            if one is not None
        ]

    async def _read(self, ref: QueueRef) -> bytes | None:
        return await self._writing.get(self._records, name_of(ref))

    async def _change(
        self, ref: QueueRef, change: Callable[[Stored], Stored]
    ) -> QueueRecord | None:
        """Replace what is stored by `change(it)`, atomically; None: there is no record."""
        while (present := await self._read(ref)) is not None:
            stored = _decode(present)
            changed = change(stored)
            if changed == stored or await self._replace(ref, present, changed):
                return _record(ref, changed)
        return None

    async def _replace(self, ref: QueueRef, present: bytes | None, stored: Stored) -> bool:
        name = name_of(ref)
        commands: list[Command] = [
            ("HSET", self._records, name, msgspec.msgpack.encode(stored)),
            ("ZADD", self._names, 0, name),
            ("ZADD", self._unapplied, 0, name)
            if stored.is_unapplied
            else ("ZREM", self._unapplied, name),
        ]
        return await self._writing.write([Check(self._records, name, present)], commands)


_decode = msgspec.msgpack.Decoder(Stored).decode


def _record(ref: QueueRef, stored: Stored) -> QueueRecord:
    queue = Queue(ref, from_json(stored.metadata), from_ms(stored.created_at))
    return QueueRecord(queue, stored.revision)
