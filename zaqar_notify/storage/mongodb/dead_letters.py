"""Dead letters: messages that were claimed too often move to another queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from zaqar_notify.clock import new_id
from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import new_rules
from zaqar_notify.storage.mongodb.failures import rerun
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.mongodb.leasing import Lease, Leasing
from zaqar_notify.storage.mongodb.posting import Posting
from zaqar_notify.storage.mongodb.queue_states import QueueStates
from zaqar_notify.storage.values import to_ms

MOVE_SECONDS = 60
"""A move that takes longer may be begun by another claim. One dead-letter queue gets no message twice."""


class DeadLettering:
    def __init__(
        self, collections: Collections, states: QueueStates, leasing: Leasing, posting: Posting
    ) -> None:
        self._states = states
        self._messages = collections.messages
        self._leasing = leasing
        self._posting = posting

    async def put_away(
        self, queue: bytes, lost: Sequence[bytes], *, rule: DeadLetter | None, now: datetime
    ) -> QueueRef | None:
        """Of messages that a claim did not get, remove the expired and move the dead letters.

        Returns:
            The queue to which there is something to move, when it has no head yet.
        """
        now_ms = to_ms(now)
        await self._leasing.remove_expired(queue, lost, now_ms)
        if rule is None:
            return None
        found = await self._messages.find(
            {
                "queue": queue,
                "_id": {"$in": list(lost)},
                "claim_count": {"$gte": rule.max_claim_count},
                "held_until": {"$lte": now_ms},
            },
            sort=[("_id", 1)],
            hint=BY_ID,
        ).to_list()
        if found and not await self._has_head(rule.queue):
            return rule.queue
        if found:
            await self._move(queue, found, rule, now)
        return None

    async def _has_head(self, ref: QueueRef) -> bool:
        """Whether messages can move there. An internal queue gets its head by the first."""
        if new_rules(ref) is not None:
            return True
        state = await self._states.get(ref)
        return state is not None and state.rules is not None

    async def _move(
        self, queue: bytes, letters: Sequence[Document], to: DeadLetter, now: datetime
    ) -> None:
        """Hold the messages, copy them under their ids, and remove them.

        When the copying is broken off, the hold lapses, and the next claim begins again.
        """
        lease = Lease.begun(new_id(), MOVE_SECONDS, 0, now, is_counted=False)
        held = await self._leasing.take(queue, [(lease, letters)])
        if not held:
            return
        await self._posting.move(to.queue, held, ttl=to.ttl, now=now)
        wanted = {
            "queue": queue,
            "_id": {"$in": [stored["_id"] for stored in held]},
            "claim": lease.claim_id,
        }
        await rerun(lambda: self._messages.delete_many(wanted, hint=BY_ID))
