"""Subscriptions in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.errors import SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import (
    DELETED,
    SubscriptionPlace,
    Subscriptions,
    unless_over,
)
from zaqar_notify.storage.redis.control.stored_subscriptions import (
    subscription_name,
    to_gone,
    to_stored,
    to_subscription,
)
from zaqar_notify.storage.redis.control.subscription_table import (
    CHANGED_AT_ONCE,
    Found,
    SubscriptionTable,
)
from zaqar_notify.storage.redis.control.writing import AT_ONCE, Writing, behind, name_of
from zaqar_notify.storage.sealed_subscriptions import names_of, refuse_without
from zaqar_notify.storage.values import from_ms, to_ms


class RedisSubscriptions(Subscriptions):
    def __init__(self, writing: Writing, keys: Keyring) -> None:
        self._writing = writing
        self._keys = keys
        self.table = SubscriptionTable(writing)

    async def create(
        self,
        subscription: Subscription,
        *,
        renew: Callable[[Subscription], Subscription],
        now: datetime,
    ) -> Subscription:
        name = subscription_name(subscription.queue, subscription.id)
        while True:
            found = await self._by_subscriber(subscription, now)
            if found is None:
                if await self.table.replace(name, None, to_stored(subscription, self._keys)):
                    return subscription
            else:
                renewed = renew(to_subscription(found.name, found.stored, self._keys))
                if await self.table.replace(found.name, found, to_stored(renewed, self._keys)):
                    return renewed

    async def get(
        self, ref: QueueRef, subscription_id: str, *, now: datetime
    ) -> Subscription | None:
        return self._live(await self._find(ref, subscription_id), now)

    async def list(
        self, ref: QueueRef, *, marker: str | None, limit: int, now: datetime
    ) -> list[Subscription]:
        listed: list[Subscription] = []
        after, end = subscription_name(ref, marker or ""), behind(name_of(ref))
        while len(listed) < limit:
            names = await self._writing.names(self.table.ids, after, end, limit)
            live = (self._live(found, now) for found in await self.table.read(names))
            listed += [each for each in live if each is not None]
            if len(names) < limit:
                break
            after = names[-1]
        return listed[:limit]

    async def of_subscriber(
        self, ref: QueueRef, subscriber: str, *, now: datetime
    ) -> Subscription | None:
        return self._live(await self._named(ref, subscriber), now)

    async def count(self, project: str, queue: str | None = None, *, now: datetime) -> int:
        ends = self.table.ends_of(project)
        if queue is not None:
            ends = self.table.ends_at(QueueRef(project, queue))
        return int(await self._writing.ask("ZCOUNT", ends, f"({to_ms(now)}", "+inf"))

    async def ids(
        self, project: str, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[SubscriptionPlace]:
        begin = "\0".join((project, *(after or ("",))))
        names = await self._writing.names(self.table.ids, begin, behind(project), limit)
        return [SubscriptionPlace(*name.split("\0")[1:]) for name in names]

    async def update(
        self,
        ref: QueueRef,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        now: datetime,
    ) -> Subscription:
        while True:
            found = await self._find(ref, subscription_id)
            present = self._live(found, now)
            if found is None or present is None:
                raise SubscriptionDoesNotExist(ref.name, subscription_id)
            changed = change(present)
            is_other = changed.subscriber != present.subscriber
            if is_other and await self._by_subscriber(changed, now) is not None:
                raise SubscriptionExists(ref.name, changed.subscriber)
            if await self.table.replace(found.name, found, to_stored(changed, self._keys)):
                return changed

    async def longest(self, ref: QueueRef) -> datetime | None:
        last = await self._writing.ask("ZRANGE", self.table.ends_at(ref), -1, -1, "WITHSCORES")
        longest = from_ms(int(float(last[1]))) if last else DELETED
        return longest if longest > DELETED else None

    async def end(self, ref: QueueRef, subscription_id: str | None = None) -> None:
        if subscription_id is not None:
            await self._end([subscription_name(ref, subscription_id)])
            return
        after, end = subscription_name(ref, ""), behind(name_of(ref))
        while names := await self._writing.names(self.table.ids, after, end, CHANGED_AT_ONCE):
            await self._end(names)
            after = names[-1]

    async def over(
        self, *, now: datetime, limit: int, ref: QueueRef | None = None
    ) -> Sequence[Subscription]:
        ends = self.table.ends if ref is None else self.table.ends_at(ref)
        names = await self._writing.due(ends, to_ms(now), limit)
        return [
            to_gone(each.name, each.stored, self._keys) for each in await self.table.read(names)
        ]

    async def remove(self, gone: Sequence[Subscription]) -> None:
        until = {subscription_name(each.queue, each.id): to_ms(each.expires_at) for each in gone}
        names = list(until)
        for first in range(0, len(names), CHANGED_AT_ONCE):
            await self.table.change_all(
                names[first : first + CHANGED_AT_ONCE],
                lambda each: None if each.stored.expires_at <= until[each.name] else each.stored,
            )

    async def _end(self, names: Sequence[str]) -> None:
        """Let these be over."""
        await self.table.change_all(
            names, lambda found: msgspec.structs.replace(found.stored, expires_at=to_ms(DELETED))
        )

    async def _find(self, ref: QueueRef, subscription_id: str) -> Found | None:
        if "\0" in subscription_id:
            return None
        found = await self.table.read([subscription_name(ref, subscription_id)])
        return found[0] if found else None

    def _live(self, found: Found | None, now: datetime) -> Subscription | None:
        if found is None or found.stored.expires_at <= to_ms(now):
            return None
        return to_subscription(found.name, found.stored, self._keys)

    async def _by_subscriber(self, wanted: Subscription, now: datetime) -> Found | None:
        """The live subscription of the wanted one's subscriber; see `unless_over`.

        Raises:
            SubscriptionLocked: It may be one that can't be decrypted.
        """
        found = await self._named(wanted.queue, wanted.subscriber)
        if found is None:
            refuse_without(await self._missing_key(wanted.queue, now))
        else:
            unless_over(to_subscription(found.name, found.stored, self._keys), now)
        return found

    async def _named(self, ref: QueueRef, subscriber: str) -> Found | None:
        """The subscription of a subscriber, live or not."""
        return await self.table.named(ref, names_of(ref, subscriber, self._keys))

    async def _missing_key(self, ref: QueueRef, now: datetime) -> str | None:
        """A key that is not here, of a live subscription of the queue."""
        for key_id in await self.table.key_ids():
            if key_id not in self._keys.ids and await self._any_lives(key_id, ref, now):
                return key_id
        return None

    async def _any_lives(self, key_id: str, ref: QueueRef, now: datetime) -> bool:
        queue, after = name_of(ref), ""
        while names := await self.table.names_under(key_id, queue, after=after, limit=AT_ONCE):
            found = await self.table.read(names)
            if any(each.stored.expires_at > to_ms(now) for each in found):
                return True
            after = names[-1]
        return False
