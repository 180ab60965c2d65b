"""Dead letters: messages that were claimed too often move to another queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.clock import new_id
from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.base import Carrier, Carry, HeadMissing, ReadyPost
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    new_rules,
    queue_key,
    readable,
    to_leaving,
    to_ref,
)
from zaqar_notify.storage.mongodb.failures import rerun
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.mongodb.leasing import Lease, Leasing
from zaqar_notify.storage.mongodb.posting import Posting
from zaqar_notify.storage.mongodb.queue_states import QueueState, QueueStates
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import to_ms

MOVE_SECONDS = 60
"""A move that takes longer may be begun by another claim. One dead-letter queue gets no message twice."""


class DeadLettering:
    def __init__(
        self,
        collections: Collections,
        states: QueueStates,
        leasing: Leasing,
        posting: Posting,
        sealing: Sealing,
    ) -> None:
        self._sealing = sealing
        self._states = states
        self._messages = collections.messages
        self._leasing = leasing
        self._posting = posting

    async def put_away(
        self,
        source: QueueState,
        lost: Sequence[Document],
        *,
        rule: DeadLetter | None,
        carry: Carry,
        now: datetime,
    ) -> QueueRef | None:
        """Of messages that a claim did not get, remove the expired and move the dead letters.

        Returns:
            The queue to which there is something to move, when it has no head yet, or `carry` does not know it.
        """
        now_ms = to_ms(now)
        ids = [stored["_id"] for stored in lost]
        await self._leasing.remove_expired(source.id, ids, now_ms)
        if rule is None and not any("leaving" in stored for stored in lost):
            return None
        found = await self._messages.find(
            {
                "queue": source.id,
                "_id": {"$in": ids},
                "held_until": {"$lte": now_ms},
                **_is_letter(rule),
            },
            sort=[("_id", 1)],
            hint=BY_ID,
        ).to_list()
        for to, letters in _by_target(found, rule).items():
            try:
                carrier = carry(to)
            except HeadMissing as missing:
                return missing.ref
            if carrier is None and not await self._has_head(to.queue):
                return to.queue
            await self._move(source, letters, to, carrier, now)
        return None

    async def _has_head(self, ref: QueueRef) -> bool:
        """Whether messages can move there. An internal queue gets its head by the first."""
        if new_rules(ref) is not None:
            return True
        state = await self._states.get(ref)
        return state is not None and state.rules is not None

    async def _move(
        self,
        source: QueueState,
        letters: Sequence[Document],
        to: DeadLetter,
        carrier: Carrier | None,
        now: datetime,
    ) -> None:
        """Hold the messages, copy them under their ids or post their jobs, and remove them.

        The hold fixes where they go. When a later step is broken off, the hold lapses, and the next claim
        begins again, even if the queue's rule is another one by then: so there is one copy.
        """
        lease = Lease.begun(new_id(), MOVE_SECONDS, 0, now, is_counted=False)
        leaving = {"queue": queue_key(to.queue), "ttl": to.ttl}
        lease = msgspec.structs.replace(lease, leaving=leaving)
        held = await self._leasing.take(source.id, [(lease, letters)])
        if not held:
            return
        if carrier is None:
            await self._posting.move(to.queue, held, ttl=to.ttl, now=now)
        else:
            held = readable(held, source.ref, self._sealing)
            jobs = [carrier.job(to_leaving(stored)) for stored in held]
            owed = ReadyPost(jobs, client_id=source.ref.project)
            await self._posting.post(carrier.outbox, owed, now)
        wanted = {
            "queue": source.id,
            "_id": {"$in": [stored["_id"] for stored in held]},
            "claim": lease.claim_id,
        }
        await rerun(lambda: self._messages.delete_many(wanted, hint=BY_ID))


def _is_letter(rule: DeadLetter | None) -> Document:
    """The condition on a message that is to move."""
    begun: Document = {"leaving": {"$exists": True}}
    if rule is None:
        return begun
    return {"$or": [begun, {"claim_count": {"$gte": rule.max_claim_count}}]}


def _by_target(
    found: Sequence[Document], rule: DeadLetter | None
) -> dict[DeadLetter, list[Document]]:
    """The dead letters by their targets: the rule's, unless their move has begun."""
    letters: dict[DeadLetter, list[Document]] = {}
    for stored in found:
        begun = stored.get("leaving")
        to = rule if begun is None else DeadLetter(to_ref(begun["queue"]), 0, begun["ttl"])
        if to is not None:
            letters.setdefault(to, []).append(stored)
    return letters
