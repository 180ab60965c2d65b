"""Messages on their way to a queue of another hash tag: no script can reach both queues.

The script that sends a message puts it into its own tag's list of parcels. Then this process appends it to its queue,
which notes that it came, and takes it off the list. A process that ends in between leaves it to the next one that
forwards parcels of the tag, or to the sweep; a second copy is recognized by the note.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import INTERNAL_PROJECT, QueueRef
from zaqar_notify.storage.ids import new_salt
from zaqar_notify.storage.redis.batches import Batch, Batches, Build, Operation
from zaqar_notify.storage.redis.records import bytes_of

AT_ONCE = 100
_KEY = re.compile(r"[^{]*\{(\d+)\}:q:(.*)/([^/]*)", re.DOTALL)


class Parcel(NamedTuple):
    """One parcel: `key` is of the queue that it goes to."""

    number: int
    key: str
    internal: str
    ttl: int
    delay: int
    now: int
    record: msgspec.Raw

    @property
    def ref(self) -> QueueRef:
        return _place(self.key)[1]


class Parcels:
    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    async def forward(self, tag: int) -> Sequence[QueueRef]:
        """Bring all parcels of the tag to their queues.

        Returns:
            Queues without a head; their parcels wait.

        Raises:
            StorageUnavailable: Some are left for another process or the sweep.
        """
        missing: list[QueueRef] = []
        while self._batches.keys.tags > 1:
            stored = await self._batches.read(
                tag, lambda _: ("parcels", 0, AT_ONCE), list[msgspec.Raw]
            )
            whole = [bytes_of(one) for one in stored]
            came = [one for one in whole if await self._receive(tag, _decode(one), missing)]
            if came:
                await self._batches.write(tag, _sent(came))
            if len(whole) < AT_ONCE or not came:
                break
        return missing

    async def forward_if_possible(self, tag: int) -> None:
        """Bring them now, if there is an answer: they are stored, so the write that sent them is done."""
        with contextlib.suppress(StorageUnavailable):
            await self.forward(tag)

    async def _receive(self, tag: int, parcel: Parcel, missing: list[QueueRef]) -> bool:
        to_tag, ref = _place(parcel.key)

        def build(batch: Batch) -> Operation:
            internal = ref.project == INTERNAL_PROJECT and parcel.internal
            lives = (parcel.ttl, parcel.delay, parcel.now)
            record = batch.record(bytes_of(parcel.record))
            queue = batch.queue(parcel.key)
            return (
                "receive",
                queue,
                f"{tag}:{parcel.number}",
                internal,
                new_salt().hex(),
                *lives,
                record,
            )

        [came] = await self._batches.write(to_tag, build)
        if not came:
            missing.append(ref)
        return bool(came)


def _sent(came: Sequence[bytes]) -> Build:
    return lambda batch: ("sent", 0, batch.record(*came), len(came))


def _decode(stored: bytes) -> Parcel:
    return msgspec.msgpack.decode(stored, type=Parcel)


def _place(key: str) -> tuple[int, QueueRef]:
    """The tag, and the queue, of a queue's key."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError(f"{key!r} is no queue's key")
    return int(found[1]), QueueRef(found[2], found[3])
