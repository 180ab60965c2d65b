"""The encrypted messages of the store, by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zaqar_notify.errors import CannotDecrypt
from zaqar_notify.rules.encryption import Keyring, Kind
from zaqar_notify.storage.redis.batches import Batch, Batches, Operation
from zaqar_notify.storage.redis.records import bytes_of, packed, unpacked
from zaqar_notify.storage.rekeying import AT_ONCE_BYTES, Encrypted, Step

Found = tuple[str, list[tuple[str, msgspec.Raw]]]


class EncryptedMessages(Encrypted):
    def __init__(self, batches: Batches, keys: Keyring) -> None:
        self._batches = batches
        self._keys = keys

    async def key_ids(self) -> Sequence[str]:
        found: set[str] = set()
        for tag in range(self._batches.keys.tags):
            key_id = ""
            while key_id := await self._batches.read(tag, _next_key(key_id), str):
                found.add(key_id)
        return sorted(found)

    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        tag, queue, position = after or (0, "", "")
        queue, rows = await self._batches.read(
            tag, lambda batch: ("sealed", 0, key_id, queue, position, limit), Found
        )
        done = locked = size = 0
        for position, raw in rows:
            former = bytes_of(raw)
            size += len(former)
            if former and await self._reseal(tag, queue, position, former):
                done += 1
            else:
                locked += 1
            if size >= AT_ONCE_BYTES:
                break
        if rows:
            return Step(done, locked, (tag, queue, position))
        following = (tag + 1, "", "") if tag + 1 < self._batches.keys.tags else None
        return Step(0, 0, following)

    async def _reseal(self, tag: int, queue: str, position: str, former: bytes) -> bool:
        """Encrypt one message anew, if it is as it was read; False: it can't be decrypted."""
        record = unpacked(former)
        try:
            body = self._keys.resealed(Kind.MESSAGE, record.body)
        except CannotDecrypt:
            return False
        new = packed(record._replace(body=body, key_id=self._keys.ids[0]))

        def build(batch: Batch) -> Operation:
            return ("reseal", batch.queue(queue), position, batch.record(former), batch.record(new))

        await self._batches.write(tag, build, list)
        return True


def _next_key(key_id: str) -> Any:
    return lambda batch: ("keyed", 0, key_id)
