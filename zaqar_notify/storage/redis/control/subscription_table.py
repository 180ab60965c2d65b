"""Subscriptions in Redis, with all that they are found by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.redis.control.stored_subscriptions import (
    Stored,
    decode,
    parts_of,
    subscription_name,
)
from zaqar_notify.storage.redis.control.writing import Check, Command, Writing, behind, name_of

CHANGED_AT_ONCE = 100
"""Subscriptions of one write, which takes some milliseconds then."""


class Found(NamedTuple):
    """A subscription as it was read: its name, its value, and what that says."""

    name: str
    value: bytes
    stored: Stored


class SubscriptionTable:
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._subscriptions = writing.key("subscriptions")
        self._subscribers = writing.key("subscribers")
        self._sealed = writing.key("sealed")
        self.ids = writing.key("ids")
        self.ends = writing.key("ends")

    async def read(self, names: Sequence[str]) -> Sequence[Found]:
        """Those subscriptions that there are."""
        values = await self._writing.get_many(self._subscriptions, names)
        return [
            Found(name, value, decode(value))
            for name, value in zip(names, values, strict=True)
            if value is not None
        ]

    def ends_of(self, project: str) -> str:
        """The key of the project's subscriptions, sorted by expiry."""
        return self._writing.key("ends-of", project)

    def ends_at(self, ref: QueueRef) -> str:
        """The key of the queue's."""
        return self._writing.key("ends-at", f"{ref.project}/{ref.name}")

    async def named(self, ref: QueueRef, names: Sequence[str]) -> Found | None:
        """The queue's subscription whose subscriber is stored under one of these names, live or not."""
        fields = [f"{name_of(ref)}\0{name}" for name in names]
        ids = await self._writing.get_many(self._subscribers, fields)
        found = await self.read(
            [subscription_name(ref, each.decode()) for each in ids if each is not None]
        )
        return found[0] if found else None

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

    async def replace(self, name: str, found: Found | None, stored: Stored | None) -> bool:
        """Replace a subscription; False: another change came between, or another one has the subscriber.

        Args:
            found: As it was read; None: there was none.
            stored: None removes it.
        """
        return await self._writing.write(*self._replacement(name, found, stored))

    async def change_all(
        self, names: Sequence[str], change: Callable[[Found], Stored | None]
    ) -> None:
        """Replace those of these subscriptions that there are by `change(it)`, in one write; None removes it."""
        while True:
            checks: list[Check] = []
            commands: list[Command] = []
            for found in await self.read(names):
                stored = change(found)
                if stored != found.stored:
                    more = self._replacement(found.name, found, stored)
                    checks += more[0]
                    commands += more[1]
            if not commands or await self._writing.write(checks, commands):
                return

    def _replacement(
        self, name: str, found: Found | None, stored: Stored | None
    ) -> tuple[Sequence[Check], Sequence[Command]]:
        checks = [Check(self._subscriptions, name, found and found.value)]
        commands: list[Command] = []
        if found is not None:
            commands += self._removal(name, found.stored)
        if stored is not None:
            subscriber = self._subscriber_field(name, stored.subscriber)
            if found is None or found.stored.subscriber != stored.subscriber:
                checks.append(Check(self._subscribers, subscriber, None))
            commands += self._insertion(name, stored)
        return checks, commands

    def _insertion(self, name: str, stored: Stored) -> Sequence[Command]:
        _, subscription_id = parts_of(name)
        subscriber = self._subscriber_field(name, stored.subscriber)
        inserted: list[Command] = [
            ("HSET", self._subscriptions, name, msgspec.msgpack.encode(stored)),
            ("HSET", self._subscribers, subscriber, subscription_id),
            ("ZADD", self.ids, 0, name),
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
            ("ZREM", self.ids, name),
            *(("ZREM", each, name) for each in self._all_ends(name)),
            ("ZREM", self._sealed, f"{stored.key_id}\0{name}"),
        ]

    def _subscriber_field(self, name: str, subscriber: str) -> str:
        ref, _ = parts_of(name)
        return f"{name_of(ref)}\0{subscriber}"

    def _all_ends(self, name: str) -> Sequence[str]:
        ref, _ = parts_of(name)
        return self.ends, self.ends_of(ref.project), self.ends_at(ref)
