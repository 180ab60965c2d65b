"""The message store, put together of posting, paging, deleting and popping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from datetime import datetime

from zaqar_notify.models import Message, Page, Posted, QueueRef, QueueStats
from zaqar_notify.storage.base import Messages, Post, Watch
from zaqar_notify.storage.batch_delay import BatchDelay
from zaqar_notify.storage.mongodb.cancelling import Cancelling, leave_messages_behind
from zaqar_notify.storage.mongodb.connection import Collections
from zaqar_notify.storage.mongodb.deleting import Deleting, Deletion
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.leasing import Leasing
from zaqar_notify.storage.mongodb.paging import PageRequest, Paging
from zaqar_notify.storage.mongodb.popping import Popping
from zaqar_notify.storage.mongodb.posting import Posting
from zaqar_notify.storage.mongodb.queue_states import QueueStates
from zaqar_notify.storage.mongodb.stats import count, count_bytes, count_internal_bytes
from zaqar_notify.storage.mongodb.watches import MongoWatches
from zaqar_notify.storage.sealing import Sealing


class MongoMessages(Messages):
    def __init__(
        self,
        collections: Collections,
        states: QueueStates,
        leasing: Leasing,
        posting: Posting,
        watches: MongoWatches,
        batch_delay: BatchDelay,
        sealing: Sealing,
    ) -> None:
        self._collections = collections
        self._messages = collections.messages
        self._states = states
        self._posting = posting
        self._watches = watches
        self._cancelling = Cancelling(collections, states)
        self._paging = Paging(collections, states, leasing, sealing)
        self._deleting = Deleting(collections, states, leasing, self._paging, batch_delay)
        self._popping = Popping(collections, states, leasing, batch_delay, sealing)

    async def close(self) -> None:
        await self._popping.close()
        await self._deleting.close()
        await self._paging.close()

    async def post(self, ref: QueueRef, post: Post, *, now: datetime) -> Posted:
        return await self._posting.post(ref, post, now)

    async def page(
        self,
        ref: QueueRef,
        *,
        marker: str | None,
        limit: int,
        now: datetime,
        without_client: str | None = None,
        include_claimed: bool = False,
        include_delayed: bool = False,
    ) -> Page:
        wanted = PageRequest(ref, marker, limit, without_client, include_claimed, include_delayed)
        return await self._paging.page(wanted, now)

    async def get(self, ref: QueueRef, ids: Sequence[str], *, now: datetime) -> list[Message]:
        return await self._paging.get(ref, ids, now=now)

    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        return self._watches.watch(ref, exclusive=exclusive)

    async def delete(
        self, ref: QueueRef, message_id: str, *, claim_id: str | None, now: datetime
    ) -> None:
        await self._deleting.delete(Deletion(ref, message_id, claim_id, now))

    async def delete_many(
        self,
        ref: QueueRef,
        ids: Sequence[str],
        *,
        claim_ids: Sequence[str] | None,
        now: datetime,
    ) -> None:
        await self._deleting.delete_many(ref, ids, claim_ids=claim_ids, now=now)

    async def pop(self, ref: QueueRef, *, limit: int, now: datetime) -> list[Message]:
        return await self._popping.pop(ref, limit=limit, now=now)

    async def purge(self, ref: QueueRef, *, now: datetime) -> None:
        with storage_errors():
            await self._cancelling.end_life(ref, [{"$set": leave_messages_behind()}], now=now)

    async def stats(self, ref: QueueRef, *, now: datetime) -> QueueStats:
        state = await self._states.get(ref)
        if state is None:
            return QueueStats(claimed=0, free=0)
        with storage_errors():
            return await count(self._messages, state.id, now)

    async def stored_bytes(self, project: str, *, now: datetime) -> int:
        with storage_errors():
            return await count_bytes(self._collections, project, now)

    async def internal_bytes(self, names: Sequence[str], *, now: datetime) -> int:
        with storage_errors():
            return await count_internal_bytes(self._collections, names, now)

    async def cancelled(self, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        return await self._cancelling.find(ref, due)
