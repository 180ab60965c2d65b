"""Subscriptions in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

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
    Stored,
    decode,
    parts_of,
    subscription_name,
    to_gone,
    to_stored,
    to_subscription,
)
from zaqar_notify.storage.redis.control.writing import (
    AT_ONCE,
    Check,
    Command,
    Writing,
    behind,
    name_of,
)
from zaqar_notify.storage.sealed_subscriptions import names_of, refuse_without
from zaqar_notify.storage.values import from_ms, to_ms


class Found(NamedTuple):
    """A subscription as it was read: its name, its value, and what that says."""

    name: str
    value: bytes
    stored: Stored


class RedisSubscriptions(Subscriptions):
    def __init__(self, writing: Writing, keys: Keyring) -> None:
        self._writing = writing
        self._keys = keys
        self._subscriptions = writing.key("subscriptions")
        self._subscribers = writing.key("subscribers")
        self._ids = writing.key("ids")
        self._ends = writing.key("ends")
        self._sealed = writing.key("sealed")

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
                if await self.replace(name, None, to_stored(subscription, self._keys)):
                    return subscription
            else:
                renewed = renew(to_subscription(found.name, found.stored, self._keys))
                if await self.replace(found.name, found, to_stored(renewed, self._keys)):
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
            names = await self._writing.names(self._ids, after, end, limit)
            live = (self._live(found, now) for found in await self.read(names))
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
        ends = self._ends_of(project) if queue is None else self._ends_at(QueueRef(project, queue))
        return int(await self._writing.ask("ZCOUNT", ends, f"({to_ms(now)}", "+inf"))

    async def ids(
        self, project: str, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[SubscriptionPlace]:
        begin = "\0".join((project, *(after or ("",))))
        names = await self._writing.names(self._ids, begin, behind(project), limit)
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
            if await self.replace(found.name, found, to_stored(changed, self._keys)):
                return changed

    async def longest(self, ref: QueueRef) -> datetime | None:
        last = await self._writing.ask("ZRANGE", self._ends_at(ref), -1, -1, "WITHSCORES")
        longest = from_ms(int(float(last[1]))) if last else DELETED
        return longest if longest > DELETED else None

    async def end(self, ref: QueueRef, subscription_id: str | None = None) -> None:
        if subscription_id is not None:
            await self._end([subscription_name(ref, subscription_id)])
            return
        after, end = subscription_name(ref, ""), behind(name_of(ref))
        while names := await self._writing.names(self._ids, after, end, AT_ONCE):
            await self._end(names)
            after = names[-1]

    async def over(
        self, *, now: datetime, limit: int, ref: QueueRef | None = None
    ) -> Sequence[Subscription]:
        ends = self._ends if ref is None else self._ends_at(ref)
        names = await self._writing.due(ends, to_ms(now), limit)
        return [to_gone(each.name, each.stored, self._keys) for each in await self.read(names)]

    async def remove(self, gone: Sequence[Subscription]) -> None:
        until = {subscription_name(each.queue, each.id): to_ms(each.expires_at) for each in gone}
        left = list(until)
        while found := await self.read(left):
            over = [each for each in found if each.stored.expires_at <= until[each.name]]
            left = [each.name for each in over if not await self.replace(each.name, each, None)]

    async def read(self, names: Sequence[str]) -> Sequence[Found]:
        """Those subscriptions that there are."""
        values = await self._writing.get_many(self._subscriptions, names)
        return [
            Found(name, value, decode(value))
            for name, value in zip(names, values, strict=True)
            if value is not None
        ]

    async def replace(self, name: str, found: Found | None, stored: Stored | None) -> bool:
        """Replace a subscription; False: another change came between, or another one has the subscriber.

        Args:
            found: As it was read; None: there was none.
            stored: None removes it.
        """
        checks = [Check(self._subscriptions, name, found and found.value)]
        commands: list[Command] = []
        if found is not None:
            commands += self._removal(name, found.stored)
        if stored is not None:
            subscriber = self._subscriber_field(name, stored.subscriber)
            if found is None or found.stored.subscriber != stored.subscriber:
                checks.append(Check(self._subscribers, subscriber, None))
            commands += self._insertion(name, stored)
        return await self._writing.write(checks, commands)

    def _insertion(self, name: str, stored: Stored) -> Sequence[Command]:
        _, subscription_id = parts_of(name)
        subscriber = self._subscriber_field(name, stored.subscriber)
        inserted: list[Command] = [
            ("HSET", self._subscriptions, name, msgspec.msgpack.encode(stored)),
            ("HSET", self._subscribers, subscriber, subscription_id),
            ("ZADD", self._ids, 0, name),
            *(("ZADD", each, stored.expires_at, name) for each in self._all_ends(name)),
        ]
        if stored.key_id is not None:
            inserted.append(("ZADD", self._sealed, 0, f"{stored.key_id}\0{name}"))
        return inserted

    def _removal(self, name: str, stored: Stored) -> Sequence[Command]:
        subscriber = self._subscriber_field(name, stored.subscriber)
        return [
            ("HDEL", self._subscriptions, name),
            ("HDEL", self._subscribers, subscriber),
            ("ZREM", self._ids, name),
            *(("ZREM", each, name) for each in self._all_ends(name)),
            ("ZREM", self._sealed, f"{stored.key_id}\0{name}"),
        ]

    async def _end(self, names: Sequence[str]) -> None:
        """Let these be over."""
        while names:
            ended = []
            for found in await self.read(names):
                over = msgspec.structs.replace(found.stored, expires_at=to_ms(DELETED))
                if not await self.replace(found.name, found, over):
                    ended.append(found.name)
            names = ended

    async def _find(self, ref: QueueRef, subscription_id: str) -> Found | None:
        if "\0" in subscription_id:
            return None
        found = await self.read([subscription_name(ref, subscription_id)])
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
        names = names_of(ref, subscriber, self._keys)
        fields = [f"{name_of(ref)}\0{name}" for name in names]
        ids = await self._writing.get_many(self._subscribers, fields)
        named = [subscription_name(ref, each.decode()) for each in ids if each is not None]
        found = await self.read(named)
        return found[0] if found else None

    async def _missing_key(self, ref: QueueRef, now: datetime) -> str | None:
        """A key that is not here, of a live subscription of the queue."""
        for key_id in await self.key_ids():
            if key_id not in self._keys.ids and await self._any_lives(key_id, ref, now):
                return key_id
        return None

    async def _any_lives(self, key_id: str, ref: QueueRef, now: datetime) -> bool:
        after = ""
        while names := await self.names_under(key_id, name_of(ref), after=after, limit=AT_ONCE):
            found = await self.read(names)
            if any(each.stored.expires_at > to_ms(now) for each in found):
                return True
            after = names[-1]
        return False

    async def key_ids(self) -> Sequence[str]:
        """The ids of the keys under which some are, in order."""
        found: list[str] = []
        after = ""
        while names := await self._writing.names(self._sealed, after, None, 1):
            found.append(names[0].partition("\0")[0])
            after = behind(found[-1])
        return found

    async def names_under(
        self, key_id: str, queue: str = "", *, after: str = "", limit: int
    ) -> Sequence[str]:
        """Subscriptions under a key, of the queue of that name or of all, after a name."""
        place = f"{key_id}\0{queue}" if queue else key_id
        begin = f"{key_id}\0{after}" if after else f"{place}\0"
        found = await self._writing.names(self._sealed, begin, behind(place), limit)
        return [each.partition("\0")[2] for each in found]

    def _subscriber_field(self, name: str, subscriber: str) -> str:
        ref, _ = parts_of(name)
        return f"{name_of(ref)}\0{subscriber}"

    def _all_ends(self, name: str) -> Sequence[str]:
        ref, _ = parts_of(name)
        return self._ends, self._ends_of(ref.project), self._ends_at(ref)

    def _ends_of(self, project: str) -> str:
        return self._writing.key("ends-of", project)

    def _ends_at(self, ref: QueueRef) -> str:
        return self._writing.key("ends-at", f"{ref.project}/{ref.name}")
