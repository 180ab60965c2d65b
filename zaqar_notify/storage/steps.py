"""The steps that touch both stores. `storage.planes` has their order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import datetime, timedelta
from typing import TypeAlias

from zaqar_notify.errors import StorageUnavailable, SubscriptionLocked
from zaqar_notify.metadata import rules_of
from zaqar_notify.models import JsonObject, Queue, QueueRef, Subscription
from zaqar_notify.rules.pacing import ORDERED_FOR, is_ordered
from zaqar_notify.storage.base import Head, Heads, MessageStore
from zaqar_notify.storage.control import DELETED, ControlStore, QueueRecord
from zaqar_notify.storage.internal import (
    DEFAULT_POOL,
    held_ref,
    parked_ref,
    pushed_ref,
    queues_of_subscription,
)
from zaqar_notify.storage.places import Places
from zaqar_notify.storage.stores import Stores

Admission: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
"""Is entered while the record of a new queue is made; raises the error that refuses the queue."""


logger = logging.getLogger(__name__)

SUBSCRIPTIONS_AT_ONCE = 500

UNUSED_KEPT = timedelta(days=1)
"""So long a queue that is gone has an entry in the catalogue: longer than a process believes that it knows it."""

Dropped: TypeAlias = Callable[[QueueRef, str, int], None]
"""Told of the number of deliveries that were dropped with a subscription, by its queue and its id."""


class Planes:
    """The control store and the message stores of the same queues."""

    def __init__(self, control: ControlStore, pools: Stores, places: Places) -> None:
        self.control = control
        self.pools = pools
        self.places = places
        self.tell_dropped: Dropped = _untold

    def at(self, ref: QueueRef) -> AbstractAsyncContextManager[MessageStore]:
        """As `Places.at`."""
        return self.places.at(ref)

    async def make_head(self, ref: QueueRef, now: datetime, admit: Admission) -> None:
        """Let the queue have a place, a record and a head."""
        records = self.control.records
        if self.places.known(ref) is not None and await self.head_of(ref) is not None:
            return
        await self.places.place(ref, now=now)
        async with self.at(ref) as store:
            while await store.heads.get(ref) is None:
                record = await records.get(ref)
                if record is None:
                    async with admit():
                        record = await records.create(ref, metadata={}, now=now)
                    await self.places.confirm(ref)
                if record is not None:
                    await self.apply(record, store.heads)

    async def make_letters_head(self, ref: QueueRef, source: QueueRef, now: datetime) -> None:
        """Let a dead-letter queue have a place and, if it is on the store of its source, a head."""
        if self.places.known(ref) is None:
            await self.places.place(ref, now=now)
        if self.places.pool_of(ref) == self.places.pool_of(source):
            await self.make_head(ref, now, nullcontext)

    async def is_elsewhere(self, ref: QueueRef, pool: str) -> bool:
        """Whether the catalogue does not name the pool of a queue that has a head there."""
        named = None if pool == DEFAULT_POOL else await self.control.catalogue.get(ref)
        return pool != DEFAULT_POOL and named != pool

    async def name_pool(self, ref: QueueRef, pool: str, now: datetime) -> bool:
        """Let the catalogue name the pool of a queue that has a head there, unless the queue has another one where the
        catalogue says; whether that was lacking."""
        if not await self.is_elsewhere(ref, pool):
            return False
        named = await self.control.catalogue.place(ref, pool, now=now)
        if named != pool:
            other = self.pools.present(named)
            if other is not None and await other.heads.get(ref) is not None:
                _log_twice(ref, pool, named)
                return False
            await self.control.catalogue.move(ref, named, pool)
        self.places.read_again()
        return True

    async def make_record(self, ref: QueueRef, head: Head, now: datetime) -> None:
        """Let a queue that has this head have a record; the rest of its metadata is not known."""
        metadata = {key: value for key, value in head.rules.items() if key != ORDERED_FOR}
        made = await self.control.records.create(ref, metadata=metadata, now=now)
        if made is not None and await self.head_of(ref) is None:
            # The queue was deleted before the record was there.
            await self.control.records.remove(ref, revision=made.revision)

    async def head_of(self, ref: QueueRef) -> Head | None:
        """As `Heads.get`."""
        async with self.at(ref) as store:
            return await store.heads.get(ref)

    async def apply(self, record: QueueRecord, heads: Heads) -> QueueRecord | None:
        """Bring the queue's head to the record's revision, which is raised if the head is past it.

        Args:
            heads: Those of the store at which the queue's place was entered.

        Returns:
            The record that was applied; None when there is none any more.
        """
        ref = record.queue.ref
        present: QueueRecord | None = record
        while present is not None:
            until = await self.control.subscriptions.longest(ref)
            rules = await self.rules(present.queue, heads, is_subscribed=until is not None)
            if await heads.put(ref, rules, revision=present.revision, subscribed_until=until):
                # One that was stored meanwhile may have found no head to raise.
                longest = await self.control.subscriptions.longest(ref)
                if longest is not None and longest != until:
                    await heads.raise_subscribed(ref, longest)
                return present
            above = await heads.revision(ref)
            present = await self.control.records.raise_revision(ref, above=above)
        return None

    async def rules(self, queue: Queue, heads: Heads, *, is_subscribed: bool) -> JsonObject:
        """The rules that the queue's head is to have: its metadata's, and its ordered subscriptions. While one of these
        can't be decrypted, those that the head has."""
        rules = rules_of(queue.metadata)
        if not is_subscribed:
            return rules
        try:
            ordered = await self.ordered(queue.ref)
        except SubscriptionLocked:
            head = await heads.get(queue.ref)
            ordered = [] if head is None else head.rules.get(ORDERED_FOR, [])
        return {**rules, ORDERED_FOR: ordered} if ordered else rules

    async def ordered(self, ref: QueueRef) -> list[str]:
        """The ids of the queue's ordered subscriptions."""
        found: list[str] = []
        marker: str | None = None
        while True:
            page = await self.control.subscriptions.list(
                ref, marker=marker, limit=SUBSCRIPTIONS_AT_ONCE, now=DELETED
            )
            found += [each.id for each in page if is_ordered(each.options)]
            if len(page) < SUBSCRIPTIONS_AT_ONCE:
                return found
            marker = page[-1].id

    async def settle_ordered(self, ref: QueueRef) -> None:
        """Have the queue's head name its ordered subscriptions: posts that begin after the return obey that.

        Raises:
            SubscriptionLocked: One of the queue's subscriptions can't be decrypted.
        """
        async with self.at(ref) as store:
            head = await store.heads.get(ref)
            if head is None:
                return
            ordered = await self.ordered(ref)
            if head.rules.get(ORDERED_FOR, []) == ordered:
                return
            record = await self.control.records.raise_revision(ref, above=head.revision)
            if record is not None:
                await self.apply(record, store.heads)

    async def unname_ordered(self, ref: QueueRef) -> None:
        """The same, after a subscription was ended."""
        head = await self.head_of(ref)
        if head is not None and head.rules.get(ORDERED_FOR):
            with suppress(SubscriptionLocked):
                await self.settle_ordered(ref)

    async def apply_change(self, changed: QueueRecord) -> bool:
        """Apply an unapplied record, and note that in it; whether there still is a record."""
        async with self.at(changed.queue.ref) as store:
            applied = await self.apply(changed, store.heads)
        if applied is None:
            return False
        await self.control.records.applied(applied.queue.ref, revision=applied.revision)
        return True

    async def apply_left(self, limit: int) -> int:
        """Apply changes of records that their processes did not, but for those of queues whose pool is away; how many."""
        applied = 0
        for record in await self.control.records.unapplied(limit=limit):
            try:
                await self.apply_change(record)
            except StorageUnavailable:
                if not self.pools.is_away(self.places.pool_of(record.queue.ref)):
                    raise
            else:
                applied += 1
        return applied

    async def raise_subscribed(self, ref: QueueRef, until: datetime) -> None:
        """As `Heads.raise_subscribed`."""
        async with self.at(ref) as store:
            await store.heads.raise_subscribed(ref, until)

    async def forget_unused(self, now: datetime, limit: int) -> int:
        """Remove entries of queues that are gone for a day, with their subscriptions, from the catalogue."""
        catalogue, control = self.control.catalogue, self.control
        doubted = await catalogue.doubted(before=now - UNUSED_KEPT, limit=limit)
        for entry in doubted:
            if await control.records.get(entry.ref) is not None:
                await catalogue.believe(entry)
            elif await control.subscriptions.longest(entry.ref) is not None:
                await catalogue.doubt(entry.ref, now=now)
            else:
                await catalogue.remove(entry)
        return len(doubted)

    async def lower_subscribed(self, ref: QueueRef) -> None:
        """Let the head be subscribed to for as long as the longest subscription lives, not longer."""
        async with self.at(ref) as store:
            while (head := await store.heads.get(ref)) is not None:
                longest = await self.control.subscriptions.longest(ref)
                if await store.heads.lower_subscribed(ref, longest, turn=head.turn):
                    return

    async def remove(self, gone: Sequence[Subscription]) -> None:
        """Remove subscriptions that are over, with the queues that are their own, in every pool that answers; a
        periodic duty of the workers looks for those that are left."""
        if gone:
            waiting = await asyncio.gather(*map(self._waiting_for, gone))
            own = [ref for each in gone for ref in queues_of_subscription(each.id)]
            for pool, store in self.pools.items():
                with self.pools.tolerated(pool):
                    await store.heads.drop_internal(own)
            await self.control.subscriptions.remove(gone)
            for each, count in zip(gone, waiting, strict=True):
                if count:
                    self.tell_dropped(each.queue, each.id, count)

    async def _waiting_for(self, subscription: Subscription) -> int:
        """How many deliveries are parked or held for it, or wait for its WebSocket."""
        count = 0
        for pool, store in self.pools.items():
            with self.pools.tolerated(pool):
                for make in (parked_ref, held_ref, pushed_ref):
                    ref = make(subscription.id)
                    if await store.heads.get(ref) is not None:
                        count += await store.heads.count_internal(prefix=ref.name)
        return count


def _log_twice(ref: QueueRef, pool: str, named: str) -> None:
    logger.error(
        "A queue is on two pools: only what is on the one that the catalogue names is read",
        extra={
            "action": "queue_on_two_pools",
            "project": ref.project,
            "queue": ref.name,
            "pool": named,
            "unread": pool,
        },
    )


def _untold(queue: QueueRef, subscription_id: str, count: int) -> None:
    """Does nothing: no service asked to be told."""
