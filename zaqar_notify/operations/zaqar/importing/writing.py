"""Writes into our store what was found in Zaqar's.

Nothing here is replaced unasked, and everything has the same name or id as before. So an import may be broken off and run
again: what is here already is counted, and the rest follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import orjson
from msgspec.structs import replace

from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.delivery.subscribers import (
    check_options,
    check_subscriber,
    check_use,
    shown_subscriber,
)
from zaqar_notify.errors import NoPoolFits, SubscriptionExists, ValidationFailed
from zaqar_notify.metadata import checked
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.operations.admin import Site
from zaqar_notify.operations.zaqar.importing.found import FoundQueue, Odd, What
from zaqar_notify.operations.zaqar.importing.report import Report
from zaqar_notify.pools import check_new_flavor
from zaqar_notify.rules.names import check_new_project, queue_ref, topic_ref

AT_ONCE = 64
"""Writes under way at the same time: the store writes them together."""

LEAST_DIFFERENCE = timedelta(seconds=1)
"""Zaqar's stores and ours keep instants with different precision."""
REMEDY = "; --replace takes Zaqar's"

Found = TypeVar("Found")


class Writing:
    """Takes queues and subscriptions, in this order, and counts them in the report."""

    def __init__(
        self,
        site: Site,
        kinds: Kinds,
        report: Report,
        progress: Callable[[int], None],
        *,
        pool_of: Callable[[QueueRef], str | None],
    ) -> None:
        """`pool_of` names the pool for a new queue; None: it is placed as any other."""
        self._storage = site.storage
        self._settings = site.settings
        self._kinds = kinds
        self._clock = site.clock
        self._pool_of = pool_of
        self._report = report
        self._progress = progress
        self._done = 0
        self._refused: set[QueueRef] = set()
        """Queues that were left out. Their subscriptions would make them, without their metadata."""

    def has_messages(self, ref: QueueRef) -> bool:
        """Whether the queue is to get messages: it was not left out, and is no topic."""
        return ref not in self._refused and not ref.is_topic

    async def queues(self, found: AsyncIterator[FoundQueue | Odd]) -> None:
        await self._each(found, self._queue)

    async def subscriptions(self, found: AsyncIterator[Subscription | Odd]) -> None:
        await self._each(found, self._subscription)

    async def _each(
        self, found: AsyncIterator[Found | Odd], write: Callable[[Found], Awaitable[None]]
    ) -> None:
        """Write all, so many at a time."""
        batch: list[Found] = []
        async for each in found:
            if isinstance(each, Odd):
                self._report.note_left_out(each)
                continue
            batch.append(each)
            if len(batch) == AT_ONCE:
                await self._together(batch, write)
                batch = []
        await self._together(batch, write)

    async def _together(
        self, batch: list[Found], write: Callable[[Found], Awaitable[None]]
    ) -> None:
        results = await asyncio.gather(*map(write, batch), return_exceptions=True)
        for error in filter(None, results):
            raise error
        self._done += len(batch)
        self._progress(self._done)

    async def _queue(self, found: FoundQueue) -> None:
        ref, metadata = found.ref, found.metadata
        try:
            _check_name(ref)
            self._check_size(len(orjson.dumps(checked(metadata, self._settings))))
            is_new = await self._is_new(found)
        except (ValidationFailed, NoPoolFits) as error:
            self._refused.add(ref)
            self._report.note_left_out(_odd(ref, str(error)))
            return
        if is_new:
            self._report.queues.imported += 1
            return
        present = await self._storage.queues.get(ref)
        if present is None or present.metadata == metadata:
            self._report.queues.present += 1
        elif not self._report.replaces:
            self._report.note_kept(_odd(ref, f"its metadata here differs from Zaqar's{REMEDY}"))
        else:
            if not self._report.is_dry:
                await self._storage.queues.update(ref, lambda _: metadata)
            self._report.queues.replaced += 1

    async def _is_new(self, found: FoundQueue) -> bool:
        queues, ref = self._storage.queues, found.ref
        if self._report.is_dry:
            return await queues.get(ref) is None
        await check_new_flavor(self._storage, ref, found.metadata)
        if (pool := self._pool_of(ref)) is not None and await queues.get(ref) is None:
            await self._storage.control.catalogue.place(ref, pool, now=self._clock.now())
        return await queues.create(found.ref, metadata=found.metadata, now=self._clock.now())

    def _check_size(self, size: int) -> None:
        most = self._settings.max_queue_metadata
        if size > most:
            raise ValidationFailed(f"its metadata has {size} bytes; at most {most} are allowed")

    async def _subscription(self, found: Subscription) -> None:
        ref = found.queue
        name = f"{ref.name}/{found.id} ({shown_subscriber(found.subscriber)})"
        try:
            self._check(found)
        except ValidationFailed as error:
            self._report.note_left_out(Odd("subscription", ref.project, name, str(error)))
            return
        now = self._clock.now()
        present = await self._storage.subscriptions.get(ref, found.id, now=now)
        if present is not None and _is_same(present, found):
            self._report.subscriptions.present += 1
        elif present is not None and not self._report.replaces:
            reason = f"it differs here from Zaqar's{REMEDY}"
            self._report.note_kept(Odd("subscription", ref.project, name, reason))
        elif not await self._is_stored(found, present):
            reason = "the queue has another subscription of this subscriber here"
            self._report.note_kept(Odd("subscription", ref.project, name, reason))
        elif present is not None:
            self._report.subscriptions.replaced += 1
        else:
            self._report.subscriptions.imported += 1

    def _check(self, found: Subscription) -> None:
        if found.queue in self._refused:
            raise ValidationFailed("its queue is left out")
        _check_name(found.queue)
        check_subscriber(found.subscriber, self._settings, self._kinds)
        check_options(found.options, self._kinds)
        check_use(found.subscriber, found.options, self._kinds, self._settings)

    async def _is_stored(self, found: Subscription, present: Subscription | None) -> bool:
        """Store it, in place of the present one of its id, unless the queue has another one of this subscriber;
        whether that is so."""

        def keep(other: Subscription) -> Subscription:
            raise SubscriptionExists(other.queue.name, other.subscriber)

        subscriptions, now, ref = self._storage.subscriptions, self._clock.now(), found.queue
        if self._report.is_dry:
            other = await subscriptions.of_subscriber(ref, found.subscriber, now=now)
            return other is None or other.id == found.id
        try:
            if present is None:
                await subscriptions.create(found, renew=keep, now=now)
            else:
                await subscriptions.update(
                    ref, found.id, lambda here: _changed(here, found), now=now
                )
        except SubscriptionExists:
            return False
        return True


def _changed(here: Subscription, found: Subscription) -> Subscription:
    """Takes from Zaqar everything that a client can change."""
    return replace(
        here,
        subscriber=found.subscriber,
        ttl=found.ttl,
        options=found.options,
        confirmed=found.confirmed,
        expires_at=found.expires_at,
    )


def _is_same(here: Subscription, found: Subscription) -> bool:
    if abs(here.expires_at - found.expires_at) > LEAST_DIFFERENCE:
        return False
    return _changed(here, found) == replace(here, expires_at=found.expires_at)


def _check_name(ref: QueueRef) -> None:
    if ref.is_topic:
        topic_ref(ref.project, ref.public_name)
    else:
        queue_ref(ref.project, ref.name)
    check_new_project(ref.project)


def _odd(ref: QueueRef, reason: str) -> Odd:
    what: What = "topic" if ref.is_topic else "queue"
    return Odd(what, ref.project, ref.public_name, reason)
