"""Subscriptions, kept in step with the heads of their queues. `storage.planes` has the order of the steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from datetime import datetime

from zaqar_notify.errors import SubscriptionExists, SubscriptionLocked
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.pacing import is_ordered
from zaqar_notify.storage.control import DELETED, SubscriptionOver
from zaqar_notify.storage.steps import Admission, Planes

REMOVED_AT_ONCE = 500


class Subscriptions:
    """Subscriptions, kept in step with the queue's head; an expired subscription counts as absent.

    A subscription that is removed (by `delete`, `delete_all`, `remove_expired`, or since an expired
    one gives way to a new one) takes its own internal queues with it: those that
    `internal.queues_of_subscription` names, with all their messages.
    """

    def __init__(self, planes: Planes) -> None:
        self._planes = planes
        self._subscriptions = planes.control.subscriptions
        self.get = self._subscriptions.get
        self.list = self._subscriptions.list
        self.of_subscriber = self._subscriptions.of_subscriber
        self.settle_ordered = planes.settle_ordered
        self.ordered = planes.ordered

    async def create(
        self,
        subscription: Subscription,
        *,
        renew: Callable[[Subscription], Subscription],
        now: datetime,
        admit: Admission = nullcontext,
    ) -> Subscription:
        """As `control.Subscriptions.create`; the queue is created when absent, unless `admit` refuses that."""
        ref = subscription.queue
        await self._planes.make_head(ref, now, admit)
        await self._planes.raise_subscribed(ref, subscription.expires_at)
        try:
            stored = await self._without_those_over(
                lambda: self._subscriptions.create(subscription, renew=renew, now=now)
            )
        except (SubscriptionExists, SubscriptionLocked):
            await self._planes.lower_subscribed(ref)
            raise
        await self._planes.raise_subscribed(ref, stored.expires_at)
        if is_ordered(stored.options) or stored.id != subscription.id:
            await self.settle_ordered(ref)
        return stored

    async def update(
        self,
        ref: QueueRef,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        now: datetime,
    ) -> Subscription:
        """Replace the subscription by `change(subscription)`, atomically, and return it.

        Raises:
            SubscriptionDoesNotExist: There is none, or it has expired.
            SubscriptionExists: The new subscriber has another subscription on the queue.
        """
        present = await self._subscriptions.get(ref, subscription_id, now=now)
        if present is not None:
            await self._planes.raise_subscribed(ref, change(present).expires_at)
        after = await self._without_those_over(
            lambda: self._subscriptions.update(ref, subscription_id, change, now=now)
        )
        await self._planes.raise_subscribed(ref, after.expires_at)
        if present is not None and after.expires_at < present.expires_at:
            await self._planes.lower_subscribed(ref)
        if present is None or is_ordered(present.options) != is_ordered(after.options):
            await self.settle_ordered(ref)
        return after

    async def delete(self, ref: QueueRef, subscription_id: str) -> None:
        """Remove the subscription. No error if absent."""
        await self._delete(ref, subscription_id)

    async def delete_all(self, ref: QueueRef) -> None:
        """Remove every subscription of the queue."""
        await self._delete(ref, None)

    async def remove_expired(self, *, now: datetime, limit: int) -> Sequence[Subscription]:
        """Remove up to `limit` expired subscriptions of all queues, and return them.

        None is returned when there are no more. Two processes that do this at the same time may both
        be given the same one.
        """
        gone = await self._subscriptions.over(now=now, limit=limit)
        await self._planes.remove(gone)
        return [each for each in gone if each.expires_at > DELETED]

    async def _delete(self, ref: QueueRef, subscription_id: str | None) -> None:
        await self._subscriptions.end(ref, subscription_id)
        await self._planes.lower_subscribed(ref)
        await self._planes.unname_ordered(ref)
        while gone := await self._subscriptions.over(now=DELETED, limit=REMOVED_AT_ONCE, ref=ref):
            await self._planes.remove(gone)

    async def _without_those_over(
        self, write: Callable[[], Awaitable[Subscription]]
    ) -> Subscription:
        """Run the write; expired subscriptions that it meets are removed first."""
        while True:
            try:
                return await write()
            except SubscriptionOver as over:
                await self._planes.remove([over.subscription])
