"""Pools and flavors in Redis: one document."""

from __future__ import annotations

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.pools import Document, Pools
from zaqar_notify.storage.redis.control.writing import Check, Writing

REVISION, CONTENT = "revision", "content"


class RedisPools(Pools):
    def __init__(self, writing: Writing, keys: Keyring) -> None:
        super().__init__(keys)
        self._writing = writing
        self._pools = writing.key("pools")

    async def load(self) -> Document:
        revision, content = await self._writing.get_many(self._pools, [REVISION, CONTENT])
        return Document(int(revision or 0), content or b"")

    async def replace(self, content: bytes, *, revision: int) -> bool:
        present = str(revision).encode() if revision else None
        return await self._writing.write(
            [Check(self._pools, REVISION, present)],
            [("HSET", self._pools, REVISION, revision + 1, CONTENT, content)],
        )
