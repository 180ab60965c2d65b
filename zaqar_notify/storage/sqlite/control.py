"""The control store of one SQLite file: queues' records, subscriptions and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime

import apsw

from zaqar_notify.errors import QueueDoesNotExist, SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.models import JsonObject, Queue, QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.control import (
    DELETED,
    ControlStore,
    QueueRecord,
    QueueRecords,
    Subscriptions,
    unless_over,
)
from zaqar_notify.storage.matching import has_metadata
from zaqar_notify.storage.sealed_subscriptions import names_of
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.encrypted import EncryptedSubscriptions
from zaqar_notify.storage.sqlite.failures import storage_errors
from zaqar_notify.storage.sqlite.quotas import SQLiteQuotaRecords
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import (
    SUBSCRIPTION_COLUMNS,
    from_subscription,
    to_gone,
    to_subscription,
)
from zaqar_notify.storage.sqlite.shares import SQLiteShares
from zaqar_notify.storage.sqlite.statements import marks
from zaqar_notify.storage.sqlite.tokens import SQLiteTokens
from zaqar_notify.storage.values import from_json, from_ms, to_json, to_ms

LOOKED_AT_BYTES = 1 << 18
"""Rows that a list looks at before other requests have a turn: some milliseconds."""
ROW_BYTES = 512
"""The size that a row counts beside its metadata."""

_RECORD_COLUMNS = "project, name, metadata, created_at, revision"
_RECORD = f"SELECT {_RECORD_COLUMNS} FROM records WHERE project = ? AND name = ?"
COUNT_OF_RECORDS = "SELECT count(*) FROM records WHERE project = ?"
UNAPPLIED = (
    f"SELECT {_RECORD_COLUMNS} FROM records INDEXED BY unapplied_records WHERE unapplied LIMIT ?"
)

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
_REPLACE = f"INSERT OR REPLACE INTO subscriptions ({SUBSCRIPTION_COLUMNS}) VALUES ({marks(14)})"
_END = "UPDATE subscriptions SET expires_at = ? WHERE project = ? AND queue = ?"


class SQLiteControl(ControlStore):
    """Of the file that a `SQLiteStore` has opened. Closing either closes the file."""

    def __init__(self, database: Database, keys: Keyring) -> None:
        self._database = database
        self.encrypted = EncryptedSubscriptions(database, keys)
        self.records = SQLiteQueueRecords(database)
        self.subscriptions = SQLiteSubscriptions(database, keys)
        self.tokens = SQLiteTokens(database)
        self.quotas = SQLiteQuotaRecords(database)
        self.shares = SQLiteShares(database)

    async def ping(self) -> None:
        self._database.read_one("SELECT 1")

    async def close(self) -> None:
        with storage_errors:
            await self._database.close()


class SQLiteQueueRecords(QueueRecords):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, ref: QueueRef) -> QueueRecord | None:
        row = self._database.read_one(_RECORD, (ref.project, ref.name))
        return None if row is None else _record(row)

    async def create(
        self, ref: QueueRef, *, metadata: JsonObject, now: datetime
    ) -> QueueRecord | None:
        if await self.get(ref) is not None:
            return None
        created = QueueRecord(Queue(ref, metadata, now), revision=1)

        def write(db: apsw.Connection) -> QueueRecord | None:
            db.execute(
                "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, 0)",
                (ref.project, ref.name, to_json(metadata), to_ms(now), created.revision),
            )
            return created if db.changes() else None

        return await self._database.write(write, grows=Grows.CLIENTS)

    async def update(
        self, ref: QueueRef, change: Callable[[JsonObject], JsonObject]
    ) -> QueueRecord:
        def write(db: apsw.Connection) -> QueueRecord:
            for row in db.execute(_RECORD, (ref.project, ref.name)):
                present = _record(row)
                metadata = change(present.queue.metadata)
                db.execute(
                    "UPDATE records SET metadata = ?, revision = revision + 1, unapplied = 1 "
                    "WHERE project = ? AND name = ?",
                    (to_json(metadata), ref.project, ref.name),
                )
                queue = Queue(ref, metadata, present.queue.created_at)
                return QueueRecord(queue, present.revision + 1)
            raise QueueDoesNotExist(ref.name)

        return await self._database.write(write)

    async def applied(self, ref: QueueRef, *, revision: int) -> None:
        await self._database.write(
            lambda db: db.execute(
                "UPDATE records SET unapplied = 0 WHERE project = ? AND name = ? AND revision = ?",
                (ref.project, ref.name, revision),
            )
        )

    async def unapplied(self, *, limit: int) -> Sequence[QueueRecord]:
        with self._database.errors:
            return [_record(row) for row in self._database.read(UNAPPLIED, (limit,))]

    async def raise_revision(self, ref: QueueRef, *, above: int) -> QueueRecord | None:
        def write(db: apsw.Connection) -> None:
            db.execute(
                "UPDATE records SET revision = max(revision, ?) WHERE project = ? AND name = ?",
                (above + 1, ref.project, ref.name),
            )

        await self._database.write(write)
        return await self.get(ref)

    async def remove(self, ref: QueueRef, *, revision: int) -> bool:
        def write(db: apsw.Connection) -> bool:
            db.execute(
                "DELETE FROM records WHERE project = ? AND name = ? AND revision = ?",
                (ref.project, ref.name, revision),
            )
            return bool(db.changes())

        return await self._database.write(write)

    async def list(
        self,
        project: str,
        *,
        marker: str | None,
        limit: int,
        name_contains: str = "",
        metadata_equals: JsonObject | None = None,
    ) -> list[Queue]:
        queues: list[Queue] = []
        matching = self._matching(project, marker or "", name_contains, metadata_equals)
        async with aclosing(matching):
            async for name, metadata, created_at in matching:
                ref = QueueRef(project, name)
                queues.append(Queue(ref, from_json(metadata), from_ms(created_at)))
                if len(queues) == limit:
                    break
        return queues

    async def count(
        self, project: str, *, name_contains: str = "", metadata_equals: JsonObject | None = None
    ) -> int:
        if not name_contains and not metadata_equals:
            row = self._database.read_one(COUNT_OF_RECORDS, (project,))
            return 0 if row is None else int(row[0])
        count = 0
        matching = self._matching(project, "", name_contains, metadata_equals)
        async with aclosing(matching):
            async for _ in matching:
                count += 1
        return count

    async def _matching(
        self, project: str, marker: str, name_contains: str, wanted: JsonObject | None
    ) -> AsyncGenerator[tuple[str, str, int], None]:
        """Rows by name: name, metadata, created_at."""
        looked_at = 0
        with self._database.errors:
            rows = self._database.read(
                "SELECT name, metadata, created_at FROM records "
                "WHERE project = ? AND name > ? AND instr(name, ?) ORDER BY name",
                (project, marker, name_contains),
            )
            try:
                for name, metadata, created_at in rows:
                    if not wanted or has_metadata(from_json(metadata), wanted):
                        yield name, metadata, created_at
                    looked_at += ROW_BYTES + len(metadata)
                    if looked_at > LOOKED_AT_BYTES:
                        looked_at = 0
                        await asyncio.sleep(0)
            finally:
                rows.close()


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
            return [to_gone(row) for row in rows]

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
        """The live subscription of the wanted one's subscriber; see `unless_over`."""
        for row in db.execute(*_by_subscriber(wanted.queue, wanted.subscriber, self._keys)):
            return unless_over(to_subscription(row, self._keys), now)
        return None


def _record(row: tuple[str, str, str, int, int]) -> QueueRecord:
    project, name, metadata, created_at, revision = row
    queue = Queue(QueueRef(project, name), from_json(metadata), from_ms(created_at))
    return QueueRecord(queue, revision)


def _by_subscriber(ref: QueueRef, subscriber: str, keys: Keyring) -> tuple[str, tuple[str, ...]]:
    """The statement that finds the subscriber's subscription, with its bindings."""
    names = names_of(ref, subscriber, keys)
    return _BY_SUBSCRIBER.format(marks=marks(len(names))), (ref.project, ref.name, *names)
