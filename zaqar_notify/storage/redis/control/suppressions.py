"""Suppressed addresses in Redis."""

from __future__ import annotations

import msgspec

from zaqar_notify.storage.redis.control.writing import Check, Writing
from zaqar_notify.storage.suppressions import Suppression, Suppressions
from zaqar_notify.storage.values import from_ms, to_ms


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """The fields of `Suppression` but for its id; the instant in ms."""

    subscriber: str
    queue: str
    subscription_id: str
    suppressed_at: int


class RedisSuppressions(Suppressions):
    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    async def add(self, project: str, suppression: Suppression) -> None:
        stored = Stored(
            suppression.subscriber,
            suppression.queue,
            suppression.subscription_id,
            to_ms(suppression.suppressed_at),
        )
        suppressions = self._of(project)
        await self._writing.write(
            [Check(suppressions, suppression.id, None)],
            [
                ("HSET", suppressions, suppression.id, msgspec.msgpack.encode(stored)),
                ("ZADD", self._ids_of(project), 0, suppression.id),
            ],
        )

    async def get(self, project: str, suppression_id: str) -> Suppression | None:
        found = await self._writing.get(self._of(project), suppression_id)
        return None if found is None else _suppression(suppression_id, found)

    async def list(self, project: str, *, marker: str | None, limit: int) -> list[Suppression]:
        ids = await self._writing.names(self._ids_of(project), marker or "", None, limit)
        found = await self._writing.get_many(self._of(project), ids)
        return [
            _suppression(suppression_id, one)
            for suppression_id, one in zip(ids, found, strict=True)
            if one is not None
        ]

    async def remove(self, project: str, suppression_id: str) -> None:
        await self._writing.write(
            [],
            [
                ("HDEL", self._of(project), suppression_id),
                ("ZREM", self._ids_of(project), suppression_id),
            ],
        )

    def _of(self, project: str) -> str:
        return self._writing.key("suppressions", project)

    def _ids_of(self, project: str) -> str:
        return self._writing.key("suppression-ids", project)


_decode = msgspec.msgpack.Decoder(Stored).decode


def _suppression(suppression_id: str, found: bytes) -> Suppression:
    stored = _decode(found)
    return Suppression(
        suppression_id,
        stored.subscriber,
        stored.queue,
        stored.subscription_id,
        from_ms(stored.suppressed_at),
    )
