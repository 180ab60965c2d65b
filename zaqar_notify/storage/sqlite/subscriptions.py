"""Subscriptions in the SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import apsw

from zaqar_notify.errors import SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import (
    DELETED,
    SubscriptionPlace,
    Subscriptions,
    unless_over,
)
from zaqar_notify.storage.sealed_subscriptions import names_of, refuse_without
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.encrypted import missing_key
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import (
    SUBSCRIPTION_COLUMNS,
    from_subscription,
    to_gone,
    to_subscription,
)
from zaqar_notify.storage.sqlite.statements import marks
from zaqar_notify.storage.values import from_ms, to_ms

_OF_QUEUE = f"SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions WHERE project = ? AND queue = ?"
_BY_ID = f"{_OF_QUEUE} AND id = ? AND expires_at > ?"
_BY_SUBSCRIBER = f"{_OF_QUEUE} AND subscriber IN ({{marks}})"
_OVER_OF_QUEUE = f"{_OF_QUEUE} AND expires_at <= ? LIMIT ?"
AFTER = f"{_OF_QUEUE} AND id > ? AND expires_at > ? ORDER BY id LIMIT ?"
OVER = (
    f"SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions INDEXED BY expiring_subscriptions "
    "WHERE expires_at <= ? LIMIT ?"
)
LONGEST = (
    "SELECT expires_at FROM subscriptions INDEXED BY lives_of_subscriptions "
    "WHERE project = ? AND queue = ? AND expires_at > ? ORDER BY expires_at DESC LIMIT 1"
)
_COUNT = "SELECT count(*) FROM subscriptions INDEXED BY lives_of_subscriptions WHERE project = ?"
COUNT_OF_PROJECT = f"{_COUNT} AND expires_at > ?"
COUNT_OF_QUEUE = f"{_COUNT} AND queue = ? AND expires_at > ?"
IDS_OF_PROJECT = "SELECT queue, id FROM subscriptions WHERE project = ? AND (queue, id) > (?, ?) ORDER BY queue, id LIMIT ?"
_REPLACE = f"INSERT OR REPLACE INTO subscriptions ({SUBSCRIPTION_COLUMNS}) VALUES ({marks(18)})"
_END = "UPDATE subscriptions SET expires_at = ? WHERE project = ? AND queue = ?"


class SQLiteSubscriptions(Subscriptions):
    def __init__(self, database: Database, keys: Keyring) -> None:
        self._database = database
        self._keys = keys

    async def create(
        self,
        subscription: Subscription,
        *,
        renew: Callable[[Subscription], Subscription],
        now: datetime,
    ) -> Subscription:
        def write(db: apsw.Connection) -> Subscription:
            existing = self._by_subscriber(db, subscription, now)
            stored = subscription if existing is None else renew(existing)
            db.execute(_REPLACE, from_subscription(stored, self._keys))
            return stored

        return await self._database.write(write, grows=Grows.CLIENTS)

    async def get(
        self, ref: QueueRef, subscription_id: str, *, now: datetime
    ) -> Subscription | None:
        row = self._database.read_one(_BY_ID, (ref.project, ref.name, subscription_id, to_ms(now)))
        return None if row is None else to_subscription(row, self._keys)

    async def list(
        self, ref: QueueRef, *, marker: str | None, limit: int, now: datetime
    ) -> list[Subscription]:
        with self._database.errors:
            rows = self._database.read(
                AFTER, (ref.project, ref.name, marker or "", to_ms(now), limit)
            )
            return [to_subscription(row, self._keys) for row in rows]

    async def of_subscriber(
        self, ref: QueueRef, subscriber: str, *, now: datetime
    ) -> Subscription | None:
        row = self._database.read_one(*_by_subscriber(ref, subscriber, self._keys))
        found = None if row is None else to_subscription(row, self._keys)
        return None if found is None or found.expires_at <= now else found

    async def count(self, project: str, queue: str | None = None, *, now: datetime) -> int:
        if queue is None:
            row = self._database.read_one(COUNT_OF_PROJECT, (project, to_ms(now)))
        else:
            row = self._database.read_one(COUNT_OF_QUEUE, (project, queue, to_ms(now)))
        return 0 if row is None else int(row[0])

    async def ids(
        self, project: str, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[SubscriptionPlace]:
        rows = self._database.read(IDS_OF_PROJECT, (project, *(after or ("", "")), limit))
        return [SubscriptionPlace(queue, subscription_id) for queue, subscription_id in rows]

    async def update(
        self,
        ref: QueueRef,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        now: datetime,
    ) -> Subscription:
        wanted = (ref.project, ref.name, subscription_id, to_ms(now))

        def write(db: apsw.Connection) -> Subscription:
            row = next(db.execute(_BY_ID, wanted), None)
            if row is None:
                raise SubscriptionDoesNotExist(ref.name, subscription_id)
            changed = change(to_subscription(row, self._keys))
            other = self._by_subscriber(db, changed, now)
            if other is not None and other.id != subscription_id:
                raise SubscriptionExists(ref.name, changed.subscriber)
            db.execute(_REPLACE, from_subscription(changed, self._keys))
            return changed

        return await self._database.write(write)

    async def longest(self, ref: QueueRef) -> datetime | None:
        row = self._database.read_one(LONGEST, (ref.project, ref.name, to_ms(DELETED)))
        return None if row is None else from_ms(row[0])

    async def end(self, ref: QueueRef, subscription_id: str | None = None) -> None:
        bindings = (to_ms(DELETED), ref.project, ref.name)

        def write(db: apsw.Connection) -> None:
            if subscription_id is None:
                db.execute(_END, bindings)
            else:
                db.execute(f"{_END} AND id = ?", (*bindings, subscription_id))

        await self._database.write(write)

    async def over(
        self, *, now: datetime, limit: int, ref: QueueRef | None = None
    ) -> Sequence[Subscription]:
        with self._database.errors:
            if ref is None:
                rows = self._database.read(OVER, (to_ms(now), limit))
            else:
                bindings = (ref.project, ref.name, to_ms(now), limit)
                rows = self._database.read(_OVER_OF_QUEUE, bindings)
            return [to_gone(row, self._keys) for row in rows]

    async def remove(self, gone: Sequence[Subscription]) -> None:
        bindings = [
            (each.queue.project, each.queue.name, each.id, to_ms(each.expires_at)) for each in gone
        ]
        await self._database.write(
            lambda db: db.executemany(
                "DELETE FROM subscriptions "
                "WHERE project = ? AND queue = ? AND id = ? AND expires_at <= ?",
                bindings,
            )
        )

    def _by_subscriber(
        self, db: apsw.Connection, wanted: Subscription, now: datetime
    ) -> Subscription | None:
        """The live subscription of the wanted one's subscriber; see `unless_over`.

        Raises:
            SubscriptionLocked: It may be one that can't be decrypted.
        """
        for row in db.execute(*_by_subscriber(wanted.queue, wanted.subscriber, self._keys)):
            return unless_over(to_subscription(row, self._keys), now)
        refuse_without(missing_key(db, wanted.queue, self._keys, to_ms(now)))
        return None


def _by_subscriber(ref: QueueRef, subscriber: str, keys: Keyring) -> tuple[str, tuple[str, ...]]:
    """The statement that finds the subscriber's subscription, with its bindings."""
    names = names_of(ref, subscriber, keys)
    return _BY_SUBSCRIBER.format(marks=marks(len(names))), (ref.project, ref.name, *names)
