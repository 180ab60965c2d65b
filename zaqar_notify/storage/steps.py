"""The steps that touch both stores. `storage.planes` has their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from zaqar_notify.metadata import rules_of
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.storage.base import Head, MessageStore
from zaqar_notify.storage.control import ControlStore, QueueRecord
from zaqar_notify.storage.internal import DEFAULT_POOL, queues_of_subscription


class Planes:
    """The control store and the message stores of the same queues."""

    def __init__(self, control: ControlStore, pools: Mapping[str, MessageStore]) -> None:
        self.control = control
        self.store = pools[DEFAULT_POOL]
        self._pools = pools

    async def make_head(self, ref: QueueRef, now: datetime) -> None:
        """Let the queue have a record and a head."""
        while await self.store.heads.get(ref) is None:
            records = self.control.records
            record = await records.get(ref) or await records.create(ref, metadata={}, now=now)
            if record is not None:
                await self.apply(record)

    async def make_record(self, ref: QueueRef, head: Head, now: datetime) -> None:
        """Let a queue that has this head have a record; the rest of its metadata is not known."""
        made = await self.control.records.create(ref, metadata=head.rules, now=now)
        if made is not None and await self.store.heads.get(ref) is None:
            # The queue was deleted before the record was there.
            await self.control.records.remove(ref, revision=made.revision)

    async def apply(self, record: QueueRecord) -> QueueRecord | None:
        """Bring the queue's head to the record's revision, which is raised if the head is past it.

        Returns:
            The record that was applied; None when there is none any more.
        """
        ref, heads = record.queue.ref, self.store.heads
        present: QueueRecord | None = record
        while present is not None:
            rules = rules_of(present.queue.metadata)
            until = await self.control.subscriptions.longest(ref)
            if await heads.put(ref, rules, revision=present.revision, subscribed_until=until):
                # One that was stored meanwhile may have found no head to raise.
                longest = await self.control.subscriptions.longest(ref)
                if longest is not None and longest != until:
                    await heads.raise_subscribed(ref, longest)
                return present
            above = await heads.revision(ref)
            present = await self.control.records.raise_revision(ref, above=above)
        return None

    async def apply_change(self, changed: QueueRecord) -> bool:
        """Apply an unapplied record, and note that in it; whether there still is a record."""
        applied = await self.apply(changed)
        if applied is None:
            return False
        await self.control.records.applied(applied.queue.ref, revision=applied.revision)
        return True

    async def apply_left(self, limit: int) -> int:
        """Apply changes of records that their processes did not; how many."""
        left = await self.control.records.unapplied(limit=limit)
        for record in left:
            await self.apply_change(record)
        return len(left)

    async def lower_subscribed(self, ref: QueueRef) -> None:
        """Let the head be subscribed to for as long as the longest subscription lives, not longer."""
        heads = self.store.heads
        while (head := await heads.get(ref)) is not None:
            longest = await self.control.subscriptions.longest(ref)
            if await heads.lower_subscribed(ref, longest, turn=head.turn):
                return

    async def remove(self, gone: Sequence[Subscription]) -> None:
        """Remove subscriptions that are over, with the queues that are their own, in every pool."""
        if gone:
            own = [ref for each in gone for ref in queues_of_subscription(each.id)]
            for store in self._pools.values():
                await store.heads.drop_internal(own)
            await self.control.subscriptions.remove(gone)
