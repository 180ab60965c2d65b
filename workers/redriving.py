"""Redrives: dead letters go back to where they came from, or to a queue that is named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

import msgspec
from msgspec.structs import replace

from workers.store import RetryingStore
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery.again import of_letter, owed_again
from zaqar_notify.delivery.bulk import Bulk, State, step_key
from zaqar_notify.delivery.letters import CLIENT, LetterPost, Source, source_of
from zaqar_notify.errors import ClaimNotHeld
from zaqar_notify.metadata import DEAD_LETTER_QUEUE
from zaqar_notify.models import Claim, Message, NewMessage, QueueRef, QueueStats
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey, MessageStore, ReadyPost
from zaqar_notify.storage.base.transfer import StoredHead
from zaqar_notify.storage.ids import life_of

LEASE_SECONDS = 10
"""So long the letters of a step that broke off can't be taken again."""
PATIENCE = timedelta(seconds=3 * LEASE_SECONDS)
"""For so long a redrive waits for letters that are under a claim, perhaps that of such a step."""
MOST_HELD = 100
"""Claims on letters that are left where they are; with more it is of no use to go on."""
MOST_SOURCES = 1000
"""Queues that name the dead-letter queue, of which letters are known."""


class _Sources(msgspec.Struct, frozen=True):
    """The queues that name a dead-letter queue as theirs, by their lives: ids tell of which life a message is."""

    by_life: dict[str, QueueRef]

    def of(self, message: Message) -> QueueRef | None:
        """The queue that the message came from. If there is one alone, it came from there, perhaps in a former life of it."""
        known = self.by_life.get(life_of(message.id))
        if known is None and len(self.by_life) == 1:
            [known] = self.by_life.values()
        return known


class Redriving:
    def __init__(self, store: RetryingStore, *, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def step(self, bulk: Bulk, most: int) -> Bulk:
        """Send up to so many letters on their way, oldest first.

        There are as many as there were at the start: a letter that comes back while others are sent is not taken again.
        """
        if bulk.total is None:
            bulk = replace(bulk, total=(await self._stats(bulk.ref)).total)
        await self._keep_left(bulk)
        limit = min(most, (bulk.total or 0) - bulk.seen) if len(bulk.held) < MOST_HELD else 0
        claim = await self._claim(bulk.ref, limit) if limit > 0 else None
        if claim is None:
            return await self._without_letters(bulk, is_over=limit <= 0)
        sources = None if bulk.target else await self._sources(bulk)
        sent = await asyncio.gather(*(self._send(bulk, each, sources) for each in claim.messages))
        gone = [one.id for one, is_sent in zip(claim.messages, sent, strict=True) if is_sent]
        await self._remove(bulk.ref, gone, claim)
        left = len(claim.messages) - len(gone)
        return replace(
            bulk,
            seen=bulk.seen + len(claim.messages),
            moved=bulk.moved + len(gone),
            left=bulk.left + left,
            idle_since=None,
            held=(*bulk.held, claim.id) if left else bulk.held,
        )

    async def _without_letters(self, bulk: Bulk, *, is_over: bool) -> Bulk:
        """There is none to take: it is over, unless some are under a claim that may end soon."""
        now = self._clock.now()
        since = bulk.idle_since or now
        if not is_over and now < since + PATIENCE and await self._are_claimed(bulk):
            return replace(bulk, idle_since=since)
        await self._release_left(bulk)
        return bulk.ended(State.DONE, now, _reason(bulk))

    async def _send(self, bulk: Bulk, message: Message, sources: _Sources | None) -> bool:
        """Send one letter on its way; False: it is not known where it came from, or the client may not post there."""
        key = step_key(bulk, message.id)
        if sources is None:
            ref = QueueRef(bulk.project, bulk.target)
            letter = LetterPost(ref, _again(message), key=key, settings=self._settings)
            await self._store.post_to(ref, letter)
            return True
        source = source_of(message)
        if source is not None:
            return await self._owe(bulk, message, source, key)
        queue = sources.of(message)
        if queue is None or not bulk.may_reach(queue.name):
            return False
        # Subscribers of the queue were notified when it was posted.
        post = ReadyPost([_again(message)], client_id=CLIENT, idempotency_key=key)
        await self._store.post_to(queue, post)
        return True

    async def _owe(self, bulk: Bulk, message: Message, source: Source, key: IdempotencyKey) -> bool:
        """Let the subscription that did not get it be owed the letter again."""
        ref = QueueRef(bulk.project, source.queue)
        if not bulk.may_reach(ref.name):
            return False
        subscription = await self._store.subscription(ref, source.subscription_id)
        if subscription is None:
            return False
        again = of_letter(message, source.message_id, source.attributes)
        internal, record = owed_again(
            ref, subscription.id, again, replayed_by=bulk.id, settings=self._settings
        )
        await self._store.post_once(ref, internal, record, key)
        return True

    async def _sources(self, bulk: Bulk) -> _Sources:
        named = {DEAD_LETTER_QUEUE: bulk.queue}
        refs = await self._store.queues_with(bulk.project, named, limit=MOST_SOURCES)
        heads = [await self._store.at(ref).until_answered(partial(_head, ref)) for ref in refs]
        found = zip(refs, heads, strict=True)
        return _Sources({head.salt.hex(): ref for ref, head in found if head is not None})

    async def _stats(self, ref: QueueRef) -> QueueStats:
        async def count(store: MessageStore) -> QueueStats:
            return await store.messages.stats(ref, now=self._clock.now())

        return await self._store.at(ref).until_answered(count)

    async def _are_claimed(self, bulk: Bulk) -> bool:
        """Whether letters are under a claim that is not the redrive's own."""
        return (await self._stats(bulk.ref)).claimed > bulk.left

    async def _claim(self, ref: QueueRef, limit: int) -> Claim | None:
        async def claim(store: MessageStore) -> Claim | None:
            return await store.claims.create(
                ref,
                claim_id=new_id(),
                ttl=LEASE_SECONDS,
                grace=0,
                limit=limit,
                now=self._clock.now(),
            )

        return await self._store.at(ref).until_answered(claim)

    async def _remove(self, ref: QueueRef, ids: Sequence[str], claim: Claim) -> None:
        """Remove letters that are on their way. Where the lease has ended, they are taken again, and sent no second time."""

        async def remove(store: MessageStore) -> None:
            with suppress(ClaimNotHeld):
                await store.messages.delete_many(
                    ref, ids, claim_ids=[claim.id], now=self._clock.now()
                )

        if ids:
            await self._store.at(ref).until_answered(remove)

    async def _keep_left(self, bulk: Bulk) -> None:
        """Hold those that are left, so that the next claim brings others."""

        async def renew(store: MessageStore) -> None:
            await store.claims.renew_many(
                bulk.ref, bulk.held, ttl=LEASE_SECONDS, grace=0, now=self._clock.now()
            )

        if bulk.held:
            await self._store.at(bulk.ref).until_answered(renew)

    async def _release_left(self, bulk: Bulk) -> None:
        async def release(store: MessageStore) -> None:
            for claim_id in bulk.held:
                await store.claims.release(bulk.ref, claim_id, now=self._clock.now(), counted=False)

        if bulk.held:
            await self._store.at(bulk.ref).until_answered(release)


async def _head(ref: QueueRef, store: MessageStore) -> StoredHead | None:
    return None if store.transfer is None else await store.transfer.head(ref)


def _again(message: Message) -> NewMessage:
    """The message as a new one: its life begins anew."""
    return NewMessage(
        message.body, message.ttl, checksum=message.checksum, attributes=message.attributes
    )


def _reason(bulk: Bulk) -> str:
    if not bulk.left:
        return ""
    return f"{bulk.left} messages are left: it is not known where they came from; name a target to send them there"
