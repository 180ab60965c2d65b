"""The store as an engine uses it: each operation is repeated until the store answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from workers.outages import Stop, until_answered
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import InternalPost
from zaqar_notify.errors import SubscriptionDoesNotExist
from zaqar_notify.models import NewMessage, Queue, QueueRef, Subscription
from zaqar_notify.storage.base import Post
from zaqar_notify.storage.planes import Storage

T = TypeVar("T")


class RetryingStore:
    """All its operations raise StorageUnavailable only when the stop comes before the store's answer,
    but for `try_post`."""

    def __init__(self, storage: Storage, *, clock: Clock, stop: Stop) -> None:
        self._storage = storage
        self._clock = clock
        self._stop = stop

    async def until_answered(self, operation: Callable[[], Awaitable[T]]) -> T:
        return await until_answered(operation, self._stop)

    async def queue(self, ref: QueueRef) -> Queue | None:
        return await self.until_answered(partial(self._storage.queues.get, ref))

    async def drop(self, internal: Sequence[QueueRef]) -> int:
        """Remove internal queues from every pool, with all that is on them; how many messages that was."""
        count = 0
        for store in self._storage.pools.values():
            for ref in internal:
                stats = partial(store.messages.stats, ref, now=self._clock.now())
                count += (await self.until_answered(stats)).total
            await self.until_answered(partial(store.heads.drop_internal, internal))
        return count

    async def subscription(self, ref: QueueRef, subscription_id: str) -> Subscription | None:
        get = self._storage.subscriptions.get
        return await self.until_answered(lambda: get(ref, subscription_id, now=self._clock.now()))

    async def subscriptions(
        self, ref: QueueRef, *, page_size: int
    ) -> AsyncIterator[Sequence[Subscription]]:
        """Pages of a queue's subscriptions, each read when the one before is done with."""
        marker: str | None = None
        while True:
            look = partial(
                self._storage.subscriptions.list,
                ref,
                marker=marker,
                limit=page_size,
                now=self._clock.now(),
            )
            page = await self.until_answered(look)
            yield page
            if len(page) < page_size:
                return
            marker = page[-1].id

    async def update_subscription(
        self, subscription: Subscription, change: Callable[[Subscription], Subscription]
    ) -> Subscription | None:
        """Change the subscription as it is now; None, if it is gone."""
        update = partial(
            self._storage.subscriptions.update,
            subscription.queue,
            subscription.id,
            change,
            now=self._clock.now(),
        )
        with suppress(SubscriptionDoesNotExist):
            return await self.until_answered(update)
        return None

    async def post(
        self, pool: str, ref: QueueRef, messages: Sequence[NewMessage], *, project: str
    ) -> None:
        """Store internal messages; perhaps twice when the store failed in between.

        Args:
            project: Whose deliveries they are about.
        """
        owed = InternalPost(messages, project=project)
        post = self._storage.pools[pool].messages.post
        await self.until_answered(lambda: post(ref, owed, now=self._clock.now()))

    async def try_post(self, ref: QueueRef, post: Post) -> None:
        """Store messages of a client's queue, without a second try.

        Raises:
            StorageUnavailable: The queue's store gave no answer.
        """
        await self._storage.post(ref, post, now=self._clock.now())

    async def cancelled(self, pool: str, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        """Those of the messages that were deleted before they were due."""
        cancelled = self._storage.pools[pool].messages.cancelled
        return await self.until_answered(partial(cancelled, ref, due))

    async def is_any_on(self, pool: str, ref: QueueRef) -> bool:
        """Whether a message is on the queue that is due, claimed or not, or can't be decrypted now."""
        read = partial(
            self._storage.pools[pool].messages.page,
            ref,
            marker=None,
            limit=1,
            now=self._clock.now(),
            include_claimed=True,
        )
        if (await self.until_answered(read)).messages:
            return True
        count = partial(self._storage.pools[pool].messages.stats, ref, now=self._clock.now())
        return (await self.until_answered(count)).oldest is not None
