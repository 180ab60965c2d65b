"""The store as an engine uses it: each operation is repeated until the store answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from functools import partial
from typing import TypeAlias, TypeVar

from workers.outages import Outage, Stop, never, until_answered
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.errors import StorageUnavailable, SubscriptionDoesNotExist
from zaqar_notify.models import JsonObject, NewMessage, Queue, QueueRef, Subscription
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey, MessageStore, Post
from zaqar_notify.storage.internal import DEFAULT_POOL, Partition
from zaqar_notify.storage.planes import Storage

T = TypeVar("T")

Where: TypeAlias = Callable[[], AbstractAsyncContextManager[MessageStore]]
"""Gives the store that some internal queues are on, for one operation."""


class Asked:
    """The message store of some internal queues."""

    def __init__(
        self,
        where: Where,
        stop: Stop,
        *,
        outage: Outage | None = None,
        is_hopeless: Callable[[], bool] = never,
    ) -> None:
        self._where = where
        self._stop = stop
        self._outage = outage
        self._is_hopeless = is_hopeless

    async def once(self, operation: Callable[[MessageStore], Awaitable[T]]) -> T:
        """Raises StorageUnavailable: It gave no answer."""
        async with self._where() as store:
            return await operation(store)

    async def until_answered(self, operation: Callable[[MessageStore], Awaitable[T]]) -> T:
        """As `outages.until_answered`."""
        return await until_answered(
            partial(self.once, operation),
            self._stop,
            outage=self._outage,
            is_hopeless=self._is_hopeless,
        )


class RetryingStore:
    """All its operations raise StorageUnavailable when the stop comes before the store's answer, and when they are
    about a queue whose pool is away: what is worked on is then let go, and begins anew when its lease lapses."""

    def __init__(self, storage: Storage, *, clock: Clock, stop: Stop) -> None:
        self._storage = storage
        self._clock = clock
        self._stop = stop

    async def until_answered(self, operation: Callable[[], Awaitable[T]]) -> T:
        return await until_answered(operation, self._stop, outage=self._stop.outage)

    def consumed(self, pool: str, is_over: Callable[[], bool]) -> Asked:
        """The pool's store for its consumers, who wait for it until that is over."""
        return Asked(
            lambda: self._storage.pools.on(pool),
            self._stop,
            outage=self._outage_of(pool),
            is_hopeless=is_over,
        )

    def on(self, pool: str) -> Asked:
        """The pool's store for what a job needs there."""
        is_away = self._storage.pools.is_away
        return Asked(
            lambda: self._storage.pools.on(pool),
            self._stop,
            outage=self._outage_of(pool),
            is_hopeless=lambda: is_away(pool),
        )

    def at(self, queue: QueueRef) -> Asked:
        """The store that has a client's queue, and the own queues of its subscriptions."""
        storage = self._storage
        return Asked(
            lambda: storage.at(queue),
            self._stop,
            outage=self._outage_of(storage.pool_of(queue)),
            is_hopeless=lambda: storage.pools.is_away(storage.pool_of(queue)),
        )

    def _outage_of(self, pool: str) -> Outage | None:
        """Those of other pools are told by `storage.open_pools`."""
        return self._stop.outage if pool == DEFAULT_POOL else None

    def partition_of(self, queue: QueueRef, settings: Settings) -> Partition:
        """Where the jobs of this queue are."""
        pool = self._storage.pool_of(queue)
        return partition_of(queue, settings.delivery_partitions, pool)

    def pool_of(self, queue: QueueRef) -> str:
        return self._storage.pool_of(queue)

    async def settle_ordered(self, ref: QueueRef) -> None:
        """Have posts to the queue know its ordered subscriptions."""
        await self.until_answered(partial(self._storage.subscriptions.settle_ordered, ref))

    async def queue(self, ref: QueueRef) -> Queue | None:
        return await self.until_answered(partial(self._storage.queues.get, ref))

    async def drop(self, internal: Sequence[QueueRef]) -> int:
        """Remove internal queues from every pool that answers, with all that is on them; how many messages that was."""
        count = 0
        for pool in self._storage.pools:
            with suppress(StorageUnavailable):
                count += await self.on(pool).until_answered(partial(self._drop, internal))
        return count

    async def _drop(self, internal: Sequence[QueueRef], store: MessageStore) -> int:
        now = self._clock.now()
        count = sum([(await store.messages.stats(ref, now=now)).total for ref in internal])
        await store.heads.drop_internal(internal)
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
        self, asked: Asked, ref: QueueRef, messages: Sequence[NewMessage], *, project: str
    ) -> None:
        """Store internal messages; perhaps twice when the store failed in between.

        Args:
            project: Whose deliveries they are about.
        """
        owed = InternalPost(messages, project=project)
        await asked.until_answered(
            lambda store: store.messages.post(ref, owed, now=self._clock.now())
        )

    async def post_once(
        self, queue: QueueRef, internal: QueueRef, message: NewMessage, key: IdempotencyKey
    ) -> None:
        """Store an internal message about a client's queue, in its pool; repeated under the key, it stores nothing."""
        owed = InternalPost([message], project=queue.project, idempotency_key=key)
        await self.at(queue).until_answered(
            lambda store: store.messages.post(internal, owed, now=self._clock.now())
        )

    async def post_to(self, ref: QueueRef, post: Post) -> None:
        """Store messages of a client's queue; the post has a key, so it may be repeated."""
        await self.until_answered(lambda: self._storage.post(ref, post, now=self._clock.now()))

    async def queues_with(
        self, project: str, metadata: JsonObject, *, limit: int
    ) -> Sequence[QueueRef]:
        """Queues of the project whose metadata have these values."""
        found = await self.until_answered(
            lambda: self._storage.queues.list(
                project, marker=None, limit=limit, metadata_equals=metadata
            )
        )
        return [queue.ref for queue in found]

    async def try_post(self, ref: QueueRef, post: Post) -> None:
        """Store messages of a client's queue, without a second try.

        Raises:
            StorageUnavailable: The queue's store gave no answer.
        """
        await self._storage.post(ref, post, now=self._clock.now())

    async def cancelled(self, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        """Those of the queue's messages that were deleted before they were due."""
        return await self.at(ref).until_answered(lambda store: store.messages.cancelled(ref, due))

    async def is_any_on(self, queue: QueueRef, own: QueueRef) -> bool:
        """Whether a message is on a subscription's own queue that is due, claimed or not, or can't be decrypted now."""
        return await self.at(queue).until_answered(partial(self._is_any_on, own))

    async def _is_any_on(self, ref: QueueRef, store: MessageStore) -> bool:
        now = self._clock.now()
        page = await store.messages.page(ref, marker=None, limit=1, now=now, include_claimed=True)
        return bool(page.messages) or (await store.messages.stats(ref, now=now)).oldest is not None
