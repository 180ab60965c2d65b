"""Subscriptions, by project and queue name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import apsw

from zaqar_notify.errors import SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.internal import queues_of_subscription
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.storage.base import SubscriptionStore
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.queues import Records
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import (
    SUBSCRIPTION_COLUMNS,
    from_subscription,
    to_ms,
    to_subscription,
)
from zaqar_notify.storage.sqlite.statements import marks

_OF_QUEUE = f"SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions WHERE project = ? AND queue = ?"
_BY_ID = f"{_OF_QUEUE} AND id = ? AND expires_at > ?"
_BY_SUBSCRIBER = f"{_OF_QUEUE} AND subscriber = ?"
EXPIRED = (
    f"SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions INDEXED BY expiring_subscriptions "
    "WHERE expires_at <= ? LIMIT ?"
)
AFTER = f"{_OF_QUEUE} AND id > ? AND expires_at > ? ORDER BY id LIMIT ?"
_REPLACE = f"INSERT OR REPLACE INTO subscriptions ({SUBSCRIPTION_COLUMNS}) VALUES ({marks(13)})"


class SQLiteSubscriptions(SubscriptionStore):
    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    async def create(
        self,
        subscription: Subscription,
        *,
        renew: Callable[[Subscription], Subscription],
        now: datetime,
    ) -> Subscription:
        ref = subscription.queue
        now_ms = to_ms(now)

        def write(db: apsw.Connection) -> Subscription:
            existing = self._by_subscriber(db, ref, subscription.subscriber, now_ms)
            stored = subscription if existing is None else renew(existing)
            self._records.ensure(db, ref, now_ms)
            db.execute(_REPLACE, from_subscription(stored))
            return stored

        return await self._database.write(write, grows=Grows.CLIENTS)

    async def get(
        self, ref: QueueRef, subscription_id: str, *, now: datetime
    ) -> Subscription | None:
        row = self._database.read_one(_BY_ID, (ref.project, ref.name, subscription_id, to_ms(now)))
        return None if row is None else to_subscription(row)

    async def list(
        self, ref: QueueRef, *, marker: str | None, limit: int, now: datetime
    ) -> list[Subscription]:
        with self._database.errors:
            rows = self._database.read(
                AFTER, (ref.project, ref.name, marker or "", to_ms(now), limit)
            )
            return [to_subscription(row) for row in rows]

    async def update(
        self,
        ref: QueueRef,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        now: datetime,
    ) -> Subscription:
        now_ms = to_ms(now)

        def write(db: apsw.Connection) -> Subscription:
            row = next(db.execute(_BY_ID, (ref.project, ref.name, subscription_id, now_ms)), None)
            if row is None:
                raise SubscriptionDoesNotExist(ref.name, subscription_id)
            changed = change(to_subscription(row))
            other = self._by_subscriber(db, ref, changed.subscriber, now_ms)
            if other is not None and other.id != subscription_id:
                raise SubscriptionExists(ref.name, changed.subscriber)
            db.execute(_REPLACE, from_subscription(changed))
            return changed

        return await self._database.write(write)

    async def delete(self, ref: QueueRef, subscription_id: str) -> None:
        await self._remove(f"{_OF_QUEUE} AND id = ?", (ref.project, ref.name, subscription_id))

    async def delete_all(self, ref: QueueRef) -> None:
        await self._remove(_OF_QUEUE, (ref.project, ref.name))

    async def remove_expired(self, *, now: datetime, limit: int) -> Sequence[Subscription]:
        bindings = (to_ms(now), limit)
        if self._database.read_one(EXPIRED, bindings) is None:
            return []
        return await self._remove(EXPIRED, bindings)

    async def _remove(self, which: str, bindings: tuple[str | int, ...]) -> Sequence[Subscription]:
        """Remove what the statement selects, and return it."""

        def write(db: apsw.Connection) -> Sequence[Subscription]:
            gone = [to_subscription(row) for row in db.execute(which, bindings)]
            self._forget(db, gone)
            return gone

        return await self._database.write(write)

    def _forget(self, db: apsw.Connection, gone: Sequence[Subscription]) -> None:
        """The one place where a subscription's row goes, with the queues that are its own."""
        for subscription in gone:
            ref = subscription.queue
            db.execute(
                "DELETE FROM subscriptions WHERE project = ? AND queue = ? AND id = ?",
                (ref.project, ref.name, subscription.id),
            )
            for own in queues_of_subscription(subscription.id):
                record = self._records.find(db, own)
                if record is not None:
                    self._records.remove(db, record)

    def _by_subscriber(
        self, db: apsw.Connection, ref: QueueRef, subscriber: str, now: int
    ) -> Subscription | None:
        """The live subscription of this subscriber; an expired one is removed."""
        bindings = (ref.project, ref.name, subscriber)
        row: Row | None = next(db.execute(_BY_SUBSCRIBER, bindings), None)
        if row is None:
            return None
        subscription = to_subscription(row)
        if to_ms(subscription.expires_at) > now:
            return subscription
        self._forget(db, [subscription])
        return None
