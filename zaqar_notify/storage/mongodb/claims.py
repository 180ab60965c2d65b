"""Claims. A claim has no document of its own: its messages name it.

Claims on one queue that arrive together are one reading of the queue's head, handed out in the order
of arrival, and one command with an update each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from datetime import datetime
from typing import NamedTuple

import msgspec

from zaqar_notify.errors import ClaimNotHeld, StorageUnavailable
from zaqar_notify.models import INTERNAL_PROJECT, Claim, DeadLetter, JsonObject, QueueRef
from zaqar_notify.storage.base import (
    Carry,
    Claims,
    DeadLetterRule,
    HeadMissing,
    within_the_store,
)
from zaqar_notify.storage.batch_delay import BatchDelay
from zaqar_notify.storage.batching import BatchItem, KeyedBatcher
from zaqar_notify.storage.ids import to_position
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.dead_letters import DeadLettering
from zaqar_notify.storage.mongodb.documents import (
    is_of,
    place,
    queue_key,
    readable,
    to_message,
)
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_CLAIM, BY_ID
from zaqar_notify.storage.mongodb.leasing import RELEASE, Lease, Leasing
from zaqar_notify.storage.mongodb.posting import Posting
from zaqar_notify.storage.mongodb.queue_states import QueueState, QueueStates
from zaqar_notify.storage.mongodb.watches import MongoWatches
from zaqar_notify.storage.passing import Passing
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import from_ms, to_ms

CLAIMS_TOGETHER = 64
LOOKED_AT_ONCE = 2000
RELEASE_UNCOUNTED = {**RELEASE, "$inc": {"claim_count": -1}}


class Source(NamedTuple):
    """A queue, without the messages of these clients; whether leases on it are to outlive every fail-over."""

    ref: QueueRef
    without_clients: frozenset[str]
    is_durable: bool


class PendingClaim(msgspec.Struct):
    """A claim that is being made, with the messages it has won so far."""

    lease: Lease
    limit: int
    rule: DeadLetterRule | None
    carry: Carry
    now: datetime
    dead_letter: DeadLetter | None = None
    missing: QueueRef | None = None
    """Its dead-letter queue, when something was to go there and there is no such queue yet."""
    won: list[Document] = []

    def apply_limits(self, rules: JsonObject) -> None:
        """Take the limits that the queue has at present."""
        self.dead_letter = None if self.rule is None else self.rule(rules)
        if self.dead_letter is not None:
            most = self.dead_letter.max_claim_count
            self.lease = msgspec.structs.replace(self.lease, most_claims=most)

    @property
    def lacks(self) -> int:
        return self.limit - len(self.won)


class MongoClaims(Claims):
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
        self._sealing = sealing
        self._states = states
        self._leasing = leasing
        self._dead_lettering = DeadLettering(collections, states, leasing, posting, sealing)
        self._watches = watches
        self._passing: Passing[bytes] = Passing()
        self._claims: KeyedBatcher[Source, PendingClaim, Claim | None] = KeyedBatcher(
            self._claim, most=CLAIMS_TOGETHER, batch_delay=batch_delay
        )

    async def create(
        self,
        ref: QueueRef,
        *,
        claim_id: str,
        ttl: int,
        grace: int,
        limit: int,
        now: datetime,
        dead_letter: DeadLetterRule | None = None,
        carry: Carry = within_the_store,
        without_clients: Collection[str] = (),
        is_durable: bool = True,
    ) -> Claim | None:
        lease = Lease.begun(claim_id, ttl, grace, now)
        source = Source(ref, frozenset(without_clients), is_durable)
        return await self._claims.call(source, PendingClaim(lease, limit, dead_letter, carry, now))

    async def close(self) -> None:
        await self._claims.close()

    async def _claim(
        self, source: Source, items: Sequence[BatchItem[PendingClaim, Claim | None]]
    ) -> None:
        ref = source.ref
        try:
            with storage_errors():
                # Internal queues have no rules that change. One that was made anew is found by the second look.
                known = self._states.remembered(ref) if ref.project == INTERNAL_PROJECT else None
                if known is None or not await self._take(known, source, items):
                    state = await self._states.get(ref)
                    if state is not None and (known is None or state.id != known.id):
                        await self._take(state, source, items)
        except StorageUnavailable as error:
            # The messages won before the error are leased, so no other claim can have them.
            for item in items:
                if not item.request.won:
                    item.fail(error)
        for item in items:
            item.resolve(self._claimed(ref, item.request))
        held = [item.request.lease.ends_at for item in items if item.request.won]
        if held:
            self._watches.held(ref, min(held))

    async def _take(
        self,
        state: QueueState,
        source: Source,
        items: Sequence[BatchItem[PendingClaim, Claim | None]],
    ) -> bool:
        """Let the claims have what there is; whether there was something."""
        if state.rules is None:
            return False
        for item in items:
            item.request.apply_limits(state.rules)
        await self._fill(state, [item.request for item in items], source)
        for item in items:
            if item.request.missing is not None:
                await self._give_back(state, item.request)
                item.fail(HeadMissing(item.request.missing))
        return any(item.request.won for item in items)

    async def _give_back(self, state: QueueState, claim: PendingClaim) -> None:
        """Release the messages that the claim has won, uncounted: its dead-letter queue has to be made first."""
        won = {"queue": state.id, "_id": {"$in": [stored["_id"] for stored in claim.won]}}
        held = {**won, "claim": claim.lease.claim_id}
        await rerun(
            lambda: self._collections.messages.update_many(held, RELEASE_UNCOUNTED, hint=BY_ID)
        )
        claim.won = []

    async def _fill(
        self, state: QueueState, claims: Sequence[PendingClaim], source: Source
    ) -> None:
        """Walk along the free messages until every claim has enough, or there are no more."""
        now = max(claim.lease.now for claim in claims)
        without_clients = source.without_clients
        passing = self._passing.begin(state.id, without_clients) if without_clients else None
        after = None if passing is None else passing.after
        while lacking := [claim for claim in claims if claim.lacks]:
            limit = min(sum(claim.lacks for claim in lacking), LOOKED_AT_ONCE)
            free = await self._leasing.first_free(
                state, now, limit=limit, after=after, without_clients=without_clients
            )
            if passing is not None:
                passing.end(free[0]["_id"] if free else None)
                passing = None
            if not free:
                return
            after = free[-1]["_id"]
            shares = _share(free, lacking)
            found = await self._leasing.take(
                state.id,
                [(claim.lease, share) for claim, share in shares],
                is_durable=source.is_durable,
            )
            for claim, share in shares:
                won = [stored for stored in found if stored["claim"] == claim.lease.claim_id]
                claim.won += won
                taken = {stored["_id"] for stored in won}
                lost = [stored for stored in share if stored["_id"] not in taken]
                if lost:
                    missing = await self._dead_lettering.put_away(
                        state, lost, rule=claim.dead_letter, carry=claim.carry, now=claim.now
                    )
                    claim.missing = claim.missing or missing
            if len(free) < limit:
                return

    async def get(self, ref: QueueRef, claim_id: str, *, now: datetime) -> Claim | None:
        state = await self._states.get(ref)
        if state is None:
            return None
        now_ms = to_ms(now)
        with storage_errors():
            found = await self._collections.messages.find(
                {**_live(state, claim_id, now_ms), "expires_at": {"$gt": now}}, hint=BY_CLAIM
            ).to_list()
        if not found:
            return None
        found.sort(key=_by_position)
        return Claim(
            claim_id,
            found[0]["claim_ttl"],
            from_ms(max(stored["held_until"] for stored in found)),
            [to_message(stored, now_ms) for stored in readable(found, ref, self._sealing)],
        )

    async def renew_many(
        self, ref: QueueRef, claim_ids: Sequence[str], *, ttl: int, grace: int, now: datetime
    ) -> Set[str]:
        state = await self._states.get(ref)
        if state is None:
            return frozenset()
        messages = self._collections.messages
        claims = {"$in": list(claim_ids)}
        live = {**_live(state, claims, to_ms(now)), "expires_at": {"$gt": now}}
        lease = Lease.begun("", ttl, grace, now, is_counted=False)
        with storage_errors():
            renewed = await rerun(
                lambda: messages.update_many(live, lease.renewal(), hint=BY_CLAIM)
            )
            if not renewed.matched_count:
                return frozenset()
            self._watches.held(ref, lease.ends_at)
            if len(claim_ids) == 1:
                return frozenset(claim_ids)
            found = messages.find(live, {"_id": 0, "claim": 1}, hint=BY_CLAIM)
            return frozenset([stored["claim"] async for stored in found])

    async def renew_message(
        self,
        ref: QueueRef,
        claim_id: str,
        message_id: str,
        *,
        ttl: int,
        grace: int,
        now: datetime,
    ) -> None:
        state = await self._states.get(ref)
        position = to_position(message_id)
        if state is None or position is None:
            raise ClaimNotHeld(claim_id, message_id)
        one: Document = {"_id": place(state.id, position)}
        if not is_of(state.id, message_id):
            one = {"moved_id": message_id}
        lease = Lease.begun(claim_id, ttl, grace, now, is_counted=False)
        held = {
            **_live(state, claim_id, lease.now),
            "expires_at": {"$gt": now},
            **one,
        }
        with storage_errors():
            renewed = await self._collections.messages.update_one(
                held, lease.renewal_of_one(), hint=BY_CLAIM
            )
            if not renewed.matched_count:
                raise ClaimNotHeld(claim_id, message_id)
            if ttl == 0:
                await self._announce(ref, 1)
            else:
                self._watches.held(ref, lease.ends_at)

    async def release(
        self, ref: QueueRef, claim_id: str, *, now: datetime, counted: bool = True
    ) -> None:
        state = await self._states.get(ref)
        if state is None:
            return
        change = RELEASE if counted else RELEASE_UNCOUNTED
        held = _live(state, claim_id, to_ms(now))
        with storage_errors():
            released = await rerun(
                lambda: self._collections.messages.update_many(held, change, hint=BY_CLAIM)
            )
            if released.modified_count:
                await self._announce(ref, released.modified_count)

    def _claimed(self, ref: QueueRef, pending: PendingClaim) -> Claim | None:
        if not pending.won:
            return None
        lease = pending.lease
        won = readable(pending.won, ref, self._sealing)
        messages = [to_message(stored, lease.now) for stored in won]
        return Claim(lease.claim_id, lease.ttl, from_ms(lease.ends_at), messages)

    async def _announce(self, ref: QueueRef, count: int) -> None:
        """Wake the watches of this process and of others."""
        stored = await self._collections.quick_queues.find_one_and_update(
            {"_id": queue_key(ref)}, {"$inc": {"turns": 1}}, {"turns": 1}, return_document=True
        )
        if stored is not None:
            self._watches.released(ref, count, stored["turns"])


def _share(
    free: Sequence[Document], claims: Sequence[PendingClaim]
) -> list[tuple[PendingClaim, Sequence[Document]]]:
    """The messages in order among the claims in the order of their arrival."""
    shares: list[tuple[PendingClaim, Sequence[Document]]] = []
    start = 0
    for claim in claims:
        share = free[start : start + claim.lacks]
        start += len(share)
        if share:
            shares.append((claim, share))
    return shares


def _live(state: QueueState, claim: str | Document, now: int) -> Document:
    """The condition on messages that the claim holds."""
    return {"queue": state.id, "claim": claim, "held_until": {"$gt": now}}


def _by_position(stored: Document) -> bytes:
    place: bytes = stored["_id"]
    return place
