"""The encrypted messages and subscriptions of the file, by their keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec

from zaqar_notify.errors import CannotDecrypt, SubscriptionLocked
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.encryption import Keyring, Kind
from zaqar_notify.storage.rekeying import AT_ONCE_BYTES, Encrypted, Step
from zaqar_notify.storage.sealed_subscriptions import StoredSubscriber, resealed
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.reserve import Grows

NEXT_KEY = (
    "SELECT key_id FROM messages INDEXED BY encrypted_messages "
    "WHERE key_id IS NOT NULL AND key_id > ? ORDER BY key_id LIMIT 1"
)
UNDER_KEY = (
    "SELECT m.serial, b.body FROM messages m INDEXED BY encrypted_messages "
    "CROSS JOIN bodies b ON b.serial = m.serial "
    "WHERE m.key_id = ? AND m.serial > ? ORDER BY m.serial LIMIT ?"
)

NEXT_KEY_OF_SUBSCRIPTIONS = (
    "SELECT key_id FROM subscriptions INDEXED BY encrypted_subscriptions "
    "WHERE key_id IS NOT NULL AND key_id > ? ORDER BY key_id LIMIT 1"
)
SUBSCRIPTIONS_UNDER_KEY = (
    "SELECT project, queue, id, subscriber, options FROM subscriptions INDEXED BY encrypted_subscriptions "
    "WHERE key_id = ? AND (project, queue, id) > (?, ?, ?) ORDER BY project, queue, id LIMIT ?"
)
LIVE_UNDER_KEY = (
    "SELECT 1 FROM subscriptions INDEXED BY encrypted_subscriptions "
    "WHERE key_id = ? AND project = ? AND queue = ? AND expires_at > ? LIMIT 1"
)


class EncryptedMessages(Encrypted):
    def __init__(self, database: Database, keys: Keyring) -> None:
        self._database = database
        self._keys = keys

    async def key_ids(self) -> Sequence[str]:
        return next_keys(self._database.read_value, NEXT_KEY)

    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        def write(db: apsw.Connection) -> Step:
            rows = _some(db.execute(UNDER_KEY, (key_id, after or 0, limit)))
            done = 0
            for serial, body in rows:
                try:
                    resealed = self._keys.resealed(Kind.MESSAGE, body)
                except CannotDecrypt:
                    continue
                db.execute("UPDATE bodies SET body = ? WHERE serial = ?", (resealed, serial))
                db.execute(
                    "UPDATE messages SET key_id = ? WHERE serial = ?", (self._keys.ids[0], serial)
                )
                done += 1
            return Step(done, len(rows) - done, rows[-1][0] if rows else None)

        return await self._database.write(write, grows=Grows.ENGINE)


class EncryptedSubscriptions(Encrypted):
    def __init__(self, database: Database, keys: Keyring) -> None:
        self._database = database
        self._keys = keys

    async def key_ids(self) -> Sequence[str]:
        return next_keys(self._database.read_value, NEXT_KEY_OF_SUBSCRIPTIONS)

    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        behind = after or ("", "", "")

        def write(db: apsw.Connection) -> Step:
            rows = _some(db.execute(SUBSCRIPTIONS_UNDER_KEY, (key_id, *behind, limit)))
            done = 0
            for project, queue, subscription_id, subscriber, options in rows:
                try:
                    was = StoredSubscriber(subscriber, options, key_id)
                    stored = resealed(QueueRef(project, queue), was, self._keys)
                except SubscriptionLocked:
                    continue
                db.execute(
                    "UPDATE subscriptions SET subscriber = ?, options = ?, key_id = ? "
                    "WHERE project = ? AND queue = ? AND id = ?",
                    (*msgspec.structs.astuple(stored), project, queue, subscription_id),
                )
                done += 1
            return Step(done, len(rows) - done, rows[-1][:3] if rows else None)

        return await self._database.write(write, grows=Grows.ENGINE)


def next_keys(find: Callable[[str, tuple[str]], str | None], statement: str) -> list[str]:
    """The ids of keys, each found by the statement that finds the one behind another."""
    found: list[str] = []
    while (key_id := find(statement, (found[-1] if found else "",))) is not None:
        found.append(key_id)
    return found


def missing_key(db: apsw.Connection, ref: QueueRef, keys: Keyring, now: int) -> str | None:
    """A key that is not here, of a live subscription of the queue."""
    for key_id in next_keys(lambda *wanted: db.execute(*wanted).get, NEXT_KEY_OF_SUBSCRIPTIONS):
        wanted = (key_id, ref.project, ref.name, now)
        if key_id not in keys.ids and db.execute(LIVE_UNDER_KEY, wanted).get:
            return key_id
    return None


def _some(rows: apsw.Cursor) -> list[Row]:
    """As many of the rows as are rewritten in one write; their last column has the envelope."""
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row[-1])
        if size >= AT_ONCE_BYTES:
            break
    rows.close()
    return some
