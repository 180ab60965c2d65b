"""Pops: messages that are taken and removed in one.

Pops on one queue that arrive together are one reading of the queue's head, one hold and one removal, and
are handed out in the order of arrival. Each for itself would meet the same first messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Message, QueueRef
from zaqar_notify.storage.batch_delay import BatchDelay
from zaqar_notify.storage.batching import BatchItem, KeyedBatcher
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import readable, to_message
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.mongodb.leasing import Leasing, removal
from zaqar_notify.storage.mongodb.queue_states import QueueState, QueueStates
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import to_ms

POPS_TOGETHER = 64


class PopRequest(msgspec.Struct, frozen=True):
    limit: int
    now: datetime


class Popping:
    def __init__(
        self,
        collections: Collections,
        states: QueueStates,
        leasing: Leasing,
        batch_delay: BatchDelay,
        sealing: Sealing,
    ) -> None:
        self._sealing = sealing
        self._messages = collections.messages
        self._states = states
        self._leasing = leasing
        self._pops: KeyedBatcher[QueueRef, PopRequest, list[Message]] = KeyedBatcher(
            self._pop, most=POPS_TOGETHER, batch_delay=batch_delay
        )

    async def pop(self, ref: QueueRef, *, limit: int, now: datetime) -> list[Message]:
        return await self._pops.call(ref, PopRequest(limit, now))

    async def close(self) -> None:
        await self._pops.close()

    async def _pop(
        self, ref: QueueRef, items: Sequence[BatchItem[PopRequest, list[Message]]]
    ) -> None:
        state = await self._states.get(ref)
        now = max(item.request.now for item in items)
        popped: list[Document] = []
        failure: StorageUnavailable | None = None
        if state is not None:
            wanted = sum(item.request.limit for item in items)
            try:
                with storage_errors():
                    await self._fill(popped, state, wanted, now)
            except StorageUnavailable as error:
                # Messages popped before the error are gone from the queue, so a caller must have them.
                failure = error
        now_ms = to_ms(now)
        start = 0
        for item in items:
            share = popped[start : start + item.request.limit]
            start += len(share)
            if failure is not None and not share:
                item.fail(failure)
            else:
                item.resolve([to_message({**stored, "held_until": 0}, now_ms) for stored in share])

    async def _fill(
        self, popped: list[Document], state: QueueState, wanted: int, now: datetime
    ) -> None:
        """Walk along the free messages until there are enough, or no more."""
        now_ms = to_ms(now)
        after: bytes | None = None
        while lacking := wanted - len(popped):
            free = await self._leasing.first_free(state, now_ms, limit=lacking, after=after)
            if not free:
                return
            after = free[-1]["_id"]
            taken = await self._take_away(state, free, now)
            popped += taken
            if len(taken) < len(free):
                ids = [stored["_id"] for stored in free]
                await self._leasing.remove_expired(state.id, ids, now_ms)
            if len(free) < lacking:
                return

    async def _take_away(
        self, state: QueueState, free: Sequence[Document], now: datetime
    ) -> list[Document]:
        """Hold messages, so that no other caller has them, and remove them."""
        lease = removal(now)
        taken = await self._leasing.take(state.id, [(lease, free)])
        held = readable(taken, state.ref, self._sealing)
        if held:
            await rerun(
                lambda: self._messages.delete_many(
                    {
                        "queue": state.id,
                        "_id": {"$in": [stored["_id"] for stored in held]},
                        "claim": lease.claim_id,
                    },
                    hint=BY_ID,
                )
            )
        return held
