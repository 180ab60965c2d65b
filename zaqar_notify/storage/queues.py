"""Queues of clients, kept in both stores. `storage.planes` has the order of the steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime

from zaqar_notify.errors import QueueDoesNotExist
from zaqar_notify.metadata import FLAVOR
from zaqar_notify.models import FlavorRef, JsonObject, Queue, QueueRef, QueueStats
from zaqar_notify.storage.steps import Admission, Planes


class Queues:
    """Queues of clients: a record, a head, and messages. A queue need not be created before it is used."""

    def __init__(self, planes: Planes) -> None:
        self._planes = planes
        self._records = planes.control.records
        self.list = self._records.list
        self.count = self._records.count
        self.count_all = self._records.count_all

    async def get(self, ref: QueueRef) -> Queue | None:
        """The queue, or None when it was never created or has been deleted."""
        record = await self._records.get(ref)
        return None if record is None else record.queue

    async def create(
        self,
        ref: QueueRef,
        *,
        metadata: JsonObject,
        now: datetime,
        admit: Admission = nullcontext,
    ) -> bool:
        """Create the queue unless it exists or `admit` refuses it; an existing one keeps its metadata.

        Returns:
            Whether it was created.
        """
        if await self._records.get(ref) is not None:
            return False
        flavor = metadata.get(FLAVOR)
        wanted = FlavorRef(ref.project, flavor) if isinstance(flavor, str) else None
        await self._planes.places.place(ref, flavor=wanted, now=now)
        async with self._planes.at(ref) as store:
            async with admit():
                record = await self._records.create(ref, metadata=metadata, now=now)
            await self._planes.places.confirm(ref)
            if record is not None:
                await self._planes.apply(record, store.heads)
        return record is not None

    async def update(self, ref: QueueRef, change: Callable[[JsonObject], JsonObject]) -> JsonObject:
        """Replace the metadata by `change(metadata)`, atomically, and return it.

        `change` is pure; it may be called again when another writer came between. An error that
        it raises ends the update with nothing stored.

        Raises:
            QueueDoesNotExist: The queue was never created.
        """
        record = await self._records.update(ref, change)
        if not await self._planes.apply_change(record):
            raise QueueDoesNotExist(ref.name)
        return record.queue.metadata

    async def delete(self, ref: QueueRef, *, now: datetime) -> None:
        """Remove the queue with its messages and claims; its subscriptions stay. No error if absent."""
        async with self._planes.at(ref) as store:
            heads = store.heads
            # A record may be made beside this for a head without one: both must be absent together.
            while True:
                record = await self._records.get(ref)
                head = await heads.get(ref)
                if record is None and head is None:
                    return
                revision = 0 if record is None else record.revision
                above = max(revision, await heads.revision(ref)) + 1
                await heads.drop(ref, revision=above, now=now)
                await self._planes.places.doubt(ref, now=now)
                if record is not None and await self._records.remove(ref, revision=revision):
                    return

    async def stats(self, ref: QueueRef, *, now: datetime) -> QueueStats:
        """As `Messages.stats`."""
        async with self._planes.at(ref) as store:
            return await store.messages.stats(ref, now=now)
