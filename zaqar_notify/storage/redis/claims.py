"""Claims, and the dead letters that they meet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from datetime import datetime
from typing import Any

from zaqar_notify.errors import ClaimNotHeld
from zaqar_notify.models import INTERNAL_PROJECT, Claim, DeadLetter, QueueRef
from zaqar_notify.storage.base import (
    Carrier,
    Carry,
    Claims,
    DeadLetterRule,
    HeadMissing,
    within_the_store,
)
from zaqar_notify.storage.ids import new_salt
from zaqar_notify.storage.redis.batches import Batch, Batches, Operation
from zaqar_notify.storage.redis.heads import HeadState, KnownHeads
from zaqar_notify.storage.redis.parcels import Parcels
from zaqar_notify.storage.redis.posting import Posting
from zaqar_notify.storage.redis.records import (
    Row,
    StoredMessage,
    opened,
    stored,
    to_leaving,
    to_message,
)
from zaqar_notify.storage.redis.scanning import Scan, Scanning
from zaqar_notify.storage.redis.watches import RedisWatches
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import from_ms, to_ms

ClaimAnswer = tuple[str, str, list[Row], str, list[Any]]


class RedisClaims(Claims):
    def __init__(
        self,
        batches: Batches,
        known: KnownHeads,
        posting: Posting,
        parcels: Parcels,
        watches: RedisWatches,
        scanning: Scanning,
        sealing: Sealing,
    ) -> None:
        self._batches = batches
        self._known = known
        self._posting = posting
        self._parcels = parcels
        self._watches = watches
        self._scanning = scanning
        self._sealing = sealing

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
        now_ms = to_ms(now)
        ends, kept = now_ms + ttl * 1000, now_ms + (ttl + grace) * 1000
        scan = self._scanning.begin(ref, without_clients)
        lease, moves = (claim_id, ttl, ends, kept, limit), False
        while (head := await self._known.get(ref)) is not None:
            rule = dead_letter(head.rules) if dead_letter is not None else None
            build = self._building(ref, head, lease, scan, rule if moves else None, rule, now_ms)
            tag, _ = self._batches.keys.queue(ref)
            if rule is not None and moves:
                await self._refuse_missing(ref, rule.queue)
            word, last, rows, salt, fresh = await self._batches.write(tag, build, ClaimAnswer)
            if rule is not None and moves and self._batches.keys.tag_of(rule.queue) != tag:
                await self._parcels.forward_if_possible(tag)
            if word == "stale":
                self._known.learn(ref, fresh)
            elif word == "missing" and rule is not None:
                raise HeadMissing(rule.queue)
            elif word == "exhausted" and rule is not None:
                carrier = carry(rule)
                if carrier is not None:
                    await self._carry_off(ref, rows, salt, carrier, scan, now_ms)
                moves = carrier is None
            elif word in ("again", "passed"):
                scan.goes_on(last, word)
            elif rows:
                held = await self._readable(ref, claim_id, rows, scan, now_ms)
                if held:
                    scan.end(held[0].position)
                    if ttl:
                        self._watches.held(ref, ends)
                    messages = [
                        to_message(one._replace(held_until=now_ms + 1), salt, now_ms)
                        for one in held
                    ]
                    return Claim(claim_id, ttl, from_ms(ends), messages)
            elif not scan.goes_on_from_the_head():
                self._watches.saw(ref, fresh)
                return None
        return None

    async def _refuse_missing(self, source: QueueRef, target: QueueRef) -> None:
        """Refuse to send messages to a queue of another tag that has no head; the script looks at those of its own.

        Raises:
            HeadMissing: It has none.
        """
        tag_of = self._batches.keys.tag_of
        if target.project == INTERNAL_PROJECT or tag_of(target) == tag_of(source):
            return
        if await self._known.read(target) is None:
            raise HeadMissing(target)

    def _building(
        self,
        ref: QueueRef,
        head: HeadState,
        lease: tuple[str, int, int, int, int],
        scan: Scan,
        moving: DeadLetter | None,
        rule: DeadLetter | None,
        now: int,
    ) -> Callable[[Batch], Operation]:
        """A claim that tells of dead letters, or moves them if `moving` says where to."""
        tag, queue = self._batches.keys.queue(ref)

        def build(batch: Batch) -> Operation:
            target: tuple[object, ...] = (0, False, "", 0)
            if moving is not None:
                to_tag, to = self._batches.keys.queue(moving.queue)
                internal = moving.queue.project == INTERNAL_PROJECT and moving.queue.name
                place = batch.queue(to) if to_tag == tag else to
                target = (place, internal, new_salt().hex(), moving.ttl or 0)
            most = rule.max_claim_count if rule is not None else -1
            return (
                *("claim", batch.queue(queue), now, head.turn),
                *lease,
                *(scan.after, most),
                *target,
                *(scan.without, self._scanning.key_ids, scan.skipped),
            )

        return build

    async def _carry_off(
        self,
        ref: QueueRef,
        rows: Sequence[Row],
        salt: str,
        carrier: Carrier,
        scan: Scan,
        now: int,
    ) -> None:
        """Let a carrier take messages that were claimed too often."""
        positions, jobs = [], []
        for one in map(stored, rows):
            clear = opened(one, ref, self._sealing)
            if clear is None:
                scan.skipped.append(one.position)
                continue
            positions.append(one.position)
            job = carrier.job(to_leaving(clear, salt))
            jobs.append(self._sealing.sealed_job(ref.project, job))
        tag, queue = self._batches.keys.queue(ref)

        def build(batch: Batch) -> Operation:
            appended = [
                self._posting.appended(batch, carrier.outbox, job, ref.project, now) for job in jobs
            ]
            return ("carry", batch.queue(queue), now, positions, appended)

        if await self._batches.write(tag, build, int):
            self._watches.came(carrier.outbox, jobs, now)
            if self._batches.keys.tag_of(carrier.outbox) != tag:
                await self._parcels.forward_if_possible(tag)

    async def _readable(
        self, ref: QueueRef, claim_id: str, rows: Sequence[Row], scan: Scan, now: int
    ) -> list[StoredMessage]:
        """Those of the held messages that can be read; the others are given back, as if not claimed."""
        held, damaged = [], []
        for one in map(stored, rows):
            clear = opened(one, ref, self._sealing)
            if clear is None:
                damaged.append(one.position)
            else:
                held.append(clear)
        if damaged:
            scan.skipped += damaged
            await self._batches.tell(ref, "unlease", now, claim_id, damaged, type_=int)
        return held

    async def get(self, ref: QueueRef, claim_id: str, *, now: datetime) -> Claim | None:
        now_ms, answer = to_ms(now), tuple[int, int, list[Row], str]
        ttl, ends, rows, salt = await self._batches.ask(
            ref, "claim_get", now_ms, claim_id, type_=answer
        )
        if ttl < 0:
            return None
        clear = [opened(one, ref, self._sealing) for one in map(stored, rows)]
        messages = [to_message(one, salt, now_ms) for one in clear if one is not None]
        return Claim(claim_id, ttl, from_ms(ends), messages)

    async def renew_many(
        self, ref: QueueRef, claim_ids: Sequence[str], *, ttl: int, grace: int, now: datetime
    ) -> Set[str]:
        now_ms = to_ms(now)
        ends, kept = now_ms + ttl * 1000, now_ms + (ttl + grace) * 1000
        renewed = await self._batches.tell(
            ref, "renew", now_ms, ttl, ends, kept, list(claim_ids), type_=list[str]
        )
        if renewed:
            self._watches.held(ref, ends)
        return {*renewed}

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
        now_ms = to_ms(now)
        ends, kept = now_ms + ttl * 1000, now_ms + (ttl + grace) * 1000
        arguments = (now_ms, ttl, ends, kept, claim_id, message_id)
        [held] = await self._batches.tell(ref, "renew_message", *arguments, type_=list[bool])
        if not held:
            raise ClaimNotHeld(claim_id, message_id)
        if ttl:
            self._watches.held(ref, ends)
        else:
            self._watches.visible(ref, 1)

    async def release(
        self, ref: QueueRef, claim_id: str, *, now: datetime, counted: bool = True
    ) -> None:
        taken_back = 0 if counted else 1
        count = await self._batches.tell(
            ref, "release", to_ms(now), claim_id, taken_back, type_=int
        )
        self._watches.visible(ref, count)
