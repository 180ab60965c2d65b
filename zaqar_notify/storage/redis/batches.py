"""Operations of many callers, run together by one script.

Operations of a tag that come while a batch is under way are the next batch. Each fails for itself. Writes and
reads have batches apart, since a write waits for the disk.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from zaqar_notify.clock import new_id, running_seconds
from zaqar_notify.errors import StorageFull, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.batching import BatchItem, KeyedBatcher
from zaqar_notify.storage.redis.connection import Connection
from zaqar_notify.storage.redis.keys import Keys

MOST = 64
"""Operations of one script; no other command is served while it runs."""
MOST_BYTES = 4 << 20
"""Of the records that a script is sent; the last operation's may be more."""

Operation: TypeAlias = Sequence[Any]
"""Its name, the number of its queue, and what else it needs, as lua/*.lua say."""
FULL = b"\x91\xa4full"
_encoder = msgspec.msgpack.Encoder(enc_hook=int)
"""Numbers that come from other stores may be of types of their own."""
_ERROR = b"\x92\xa5error"
NO_ROOM = "The Redis has no memory left (maxmemory); raise it, or let messages be consumed"


class Batch:
    """Operations of one tag in the making: the queues and the records that they name by number."""

    def __init__(self, tag: int, tag_key: str) -> None:
        self.tag = tag
        self.size = 0
        self.records: list[bytes] = []
        self.keys: dict[str, int] = {tag_key: 0}

    def queue(self, key: str) -> int:
        return self.keys.setdefault(key, len(self.keys))

    def record(self, *records: bytes) -> int:
        """The number of the first of these records."""
        self.size += sum(map(len, records))
        self.records += records
        return len(self.records) - len(records)


Build: TypeAlias = Callable[[Batch], Operation]


class Batches:
    """All operations of one store go through here."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self.connection = connection
        self.keys = keys
        self.sender = new_id()
        self._ahead_ms: float | None = None
        self._writes = KeyedBatcher(self._run, most=MOST)
        self._reads = KeyedBatcher(self._run, most=MOST)

    async def tell(self, ref: QueueRef, name: str, *arguments: object, type_: Any = list) -> Any:
        """Have an operation on one queue done; its answer is of the type.

        Raises:
            StorageUnavailable: There was no answer; it may have been done.
            StorageFull: It was refused, since the server has no memory left.
        """
        tag, queue = self.keys.queue(ref)
        return await self.write(tag, lambda batch: (name, batch.queue(queue), *arguments), type_)

    async def ask(self, ref: QueueRef, name: str, *arguments: object, type_: Any = list) -> Any:
        """As `tell`, of an operation that changes nothing for others."""
        tag, queue = self.keys.queue(ref)
        return await self.read(tag, lambda batch: (name, batch.queue(queue), *arguments), type_)

    async def write(self, tag: int, build: Build, type_: Any = list) -> Any:
        """As `tell`, of an operation that is made when its batch is."""
        return _decoded(await self._writes.call(tag, build), type_)

    async def read(self, tag: int, build: Build, type_: Any = list) -> Any:
        return _decoded(await self._reads.call(tag, build), type_)

    def present_ms(self) -> int:
        """About the millisecond that the server's clock shows when a batch comes there that is sent now."""
        return int(running_seconds() * 1000 + (self._ahead_ms or 0))

    async def close(self) -> None:
        """Finish the operations under way."""
        await self._writes.close()
        await self._reads.close()

    async def _run(self, tag: int, items: Sequence[BatchItem[Build, bytes]]) -> None:
        waiting = deque(items)
        while waiting:
            await self._run_some(tag, waiting)

    async def _run_some(self, tag: int, waiting: deque[BatchItem[Build, bytes]]) -> None:
        """Run as many of the first operations as make a batch."""
        batch = Batch(tag, self.keys.of_tag(tag))
        operations, asked = [], []
        while waiting and batch.size < MOST_BYTES:
            item = waiting.popleft()
            try:
                operations.append(item.request(batch))
                asked.append(item)
            except Exception as refusal:  # It is the caller's, not the batch's.
                item.fail(refusal)
        if not asked:
            return
        arguments = (self.sender.encode(), _encoder.encode(operations), *batch.records)
        answer = await self.connection.run([*batch.keys], arguments)
        present, results = _answers().decode(answer)
        self._ahead_ms = present - running_seconds() * 1000
        for item, result in zip(asked, results, strict=True):
            item.resolve(bytes(result))


@functools.cache
def _answers() -> msgspec.msgpack.Decoder[tuple[int, list[msgspec.Raw]]]:
    return msgspec.msgpack.Decoder(tuple[int, list[msgspec.Raw]])


@functools.cache
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_)


def _decoded(answer: bytes, type_: Any) -> Any:
    if answer.startswith(_ERROR):
        _, text = msgspec.msgpack.decode(answer, type=tuple[str, msgspec.Raw])
        raise StorageUnavailable(f"Redis answered with an error: {bytes(text)[1:]!r}")
    if answer == FULL:
        raise StorageFull(NO_ROOM)
    return _decoder(type_).decode(answer)
