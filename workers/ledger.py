"""Stores records of deliveries, and orders a replay for those that wait on a subscription's own queues."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from workers.recorder import Recorder
from workers.replay_jobs import ReplayJobs
from workers.store import Asked, RetryingStore
from zaqar_notify.delivery import InternalMessage, by_queue
from zaqar_notify.models import NewMessage, QueueRef, Subscription
from zaqar_notify.storage.internal import (
    held_ref,
    parked_ref,
    places_ref,
    queues_of_subscription,
    undelivered_ref,
)

MAX_POST_BYTES = 1 << 20
MAX_POST_MESSAGES = 500
"""Records are written in posts of at most so many bytes (or one record) and messages."""


class Ledger:
    def __init__(self, store: RetryingStore, replay_jobs: ReplayJobs, recorder: Recorder) -> None:
        self._store = store
        self._replay_jobs = replay_jobs
        self._recorder = recorder

    async def write(self, pool: str, records: Iterable[InternalMessage], *, project: str) -> None:
        """Store records of one project durably in the pool; perhaps twice when the store failed in between.

        Raises:
            StorageUnavailable: The worker stops, and the store gives no answer; or the pool is away.
        """
        await self._write(self._store.on(pool), records, project)

    async def _write(self, asked: Asked, records: Iterable[InternalMessage], project: str) -> None:
        for ref, messages in by_queue(records).items():
            for portion in _portions(messages):
                await self._store.post(asked, ref, portion, project=project)
                self._recorder.written(ref, len(portion))

    async def write_for(
        self, subscription: Subscription, records: Sequence[InternalMessage]
    ) -> None:
        """Store records of one subscription in the pool that has its queue now, whatever the pool of the job, and
        look after those on its own queues. Raises as `write`."""
        queue = subscription.queue
        await self._write(self._store.at(queue), records, queue.project)
        own = {ref for ref, _ in records}.intersection(queues_of_subscription(subscription.id))
        if own:
            await self._look_after(subscription, own)

    async def _look_after(self, subscription: Subscription, own: Collection[QueueRef]) -> None:
        """See to records on the subscription's own queues, because it may have changed meanwhile:

        - removed: its queues were deleted before these records came,
        - enabled: the held deliveries had been replayed before,
        - parked: the replay that found nothing has ended.
        """
        current = await self._store.subscription(subscription.queue, subscription.id)
        if current is None:
            await self.forget(subscription.queue, subscription.id)
        elif parked_ref(subscription.id) in own:
            await self._replay_jobs.ensure(current)
        elif held_ref(subscription.id) in own and current.disabled_at is None:
            await self._replay_jobs.order(current)

    async def fetch_parked(self, subscription: Subscription) -> None:
        """Have deliveries that are parked for it fetched."""
        await self._replay_jobs.ensure(subscription)

    async def forget(self, queue: QueueRef, subscription_id: str) -> None:
        """Drop all deliveries that wait for a subscription that is gone."""
        count = await self._store.drop([parked_ref(subscription_id), held_ref(subscription_id)])
        await self._store.drop([undelivered_ref(subscription_id), places_ref(subscription_id)])
        if count:
            self._recorder.dropped_together(queue, subscription_id, count=count)


def _portions(messages: Sequence[NewMessage]) -> Iterator[list[NewMessage]]:
    """The messages in order, in posts of a reasonable size."""
    portion: list[NewMessage] = []
    size = 0
    for message in messages:
        if portion and (
            size + len(message.body) > MAX_POST_BYTES or len(portion) == MAX_POST_MESSAGES
        ):
            yield portion
            portion, size = [], 0
        portion.append(message)
        size += len(message.body)
    if portion:
        yield portion
