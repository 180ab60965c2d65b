"""Replays that clients order: deliveries that were given up, or messages that are still on their queue, are owed anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from workers.store import RetryingStore
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import WrittenLater, delivery_id, read_undelivered, say_written_later
from zaqar_notify.delivery.again import Again, of_message, of_undelivered, owed_again
from zaqar_notify.delivery.bulk import Bulk, Outcome, State, step_key
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Message, NewMessage, Page, QueueRef, Subscription
from zaqar_notify.rules.filter_policy import Candidate, filter_of
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import undelivered_ref

Read = Callable[[Bulk, Subscription, Message], Again | None]


class _Source(msgspec.Struct, frozen=True):
    """A queue with deliveries to replay: how one is read of a message, if it is to be taken; and whether it is removed."""

    ref: QueueRef
    read: Read
    is_emptied: bool


class Replaying:
    def __init__(self, store: RetryingStore, *, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def step(self, bulk: Bulk, most: int) -> Bulk:
        """Let up to so many deliveries be owed again, oldest first."""
        subscription = await self._store.subscription(bulk.ref, bulk.subscription_id)
        if subscription is None:
            return bulk.ended(State.FAILED, self._clock.now(), "the subscription is gone")
        sources = _sources(bulk)
        if bulk.total is None:
            bulk = replace(bulk, total=await self._count(bulk.ref, sources))
        source = sources[bulk.part]
        page = await self._page(bulk, source.ref, most)
        found = [(message, source.read(bulk, subscription, message)) for message in page.messages]
        taken = [(message, again) for message, again in found if again is not None]
        await asyncio.gather(*(self._owe(bulk, message.id, again) for message, again in taken))
        if source.is_emptied and taken:
            await self._remove(bulk.ref, source.ref, [message.id for message, _ in taken])
        bulk = replace(
            bulk,
            seen=bulk.seen + len(found),
            moved=bulk.moved + len(taken),
            marker=page.marker or bulk.marker,
        )
        return bulk if len(found) == most else self._next_part(bulk, sources)

    def _next_part(self, bulk: Bulk, sources: Sequence[_Source]) -> Bulk:
        if bulk.part + 1 < len(sources):
            return replace(bulk, part=bulk.part + 1, marker=None)
        return bulk.ended(State.DONE, self._clock.now())

    async def _owe(self, bulk: Bulk, source_id: str, again: Again) -> None:
        internal, record = owed_again(
            bulk.ref, bulk.subscription_id, again, replayed_by=bulk.id, settings=self._settings
        )
        key = step_key(bulk, f"{bulk.part} {source_id}")
        await self._store.post_once(bulk.ref, internal, record, key)

    async def _page(self, bulk: Bulk, ref: QueueRef, most: int) -> Page:
        async def look(store: MessageStore) -> Page:
            return await store.messages.page(
                ref, marker=bulk.marker, limit=most, now=self._clock.now(), include_claimed=True
            )

        return await self._store.at(bulk.ref).until_answered(look)

    async def _count(self, queue: QueueRef, sources: Sequence[_Source]) -> int:
        async def count(ref: QueueRef, store: MessageStore) -> int:
            return (await store.messages.stats(ref, now=self._clock.now())).total

        at = self._store.at(queue)
        return sum([await at.until_answered(partial(count, source.ref)) for source in sources])

    async def _remove(self, queue: QueueRef, ref: QueueRef, ids: Sequence[str]) -> None:
        async def remove(store: MessageStore) -> None:
            await store.messages.delete_many(ref, ids, claim_ids=None, now=self._clock.now())

        await self._store.at(queue).until_answered(remove)


def _sources(bulk: Bulk) -> Sequence[_Source]:
    undelivered = _Source(undelivered_ref(bulk.subscription_id), _given_up, is_emptied=True)
    messages = _Source(bulk.ref, _on_queue, is_emptied=False)
    return {
        Outcome.UNDELIVERED: (undelivered,),
        Outcome.DELIVERED: (messages,),
        Outcome.ANY: (undelivered, messages),
    }[bulk.selection.outcome]


def _given_up(bulk: Bulk, _: Subscription, message: Message) -> Again | None:
    """A delivery that was given up before the replay was asked for: one that it brings back is not taken again."""
    try:
        record = read_undelivered(message.body)
    except WrittenLater as later:
        say_written_later(later.version)
        return None
    at = record.given_up_at
    if at >= bulk.asked_at or not bulk.selection.takes(record.delivery_id, record.message_id, at):
        return None
    return of_undelivered(record)


def _on_queue(bulk: Bulk, subscription: Subscription, message: Message) -> Again | None:
    own_id, at = delivery_id(subscription.id, message.id), message.posted_at
    if at >= bulk.asked_at or not bulk.selection.takes(own_id, message.id, at):
        return None
    return of_message(message) if _passes(subscription, message) else None


def _passes(subscription: Subscription, message: Message) -> bool:
    """Whether the subscription's filter policy lets the message through. One that can't be read is older than its check."""
    try:
        policy = filter_of(subscription.options)
    except ValidationFailed:
        return True
    own = NewMessage(message.body, message.ttl, attributes=message.attributes)
    return policy is None or policy.accepts(Candidate(own))
