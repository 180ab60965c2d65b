"""The message store of one SQLite file, put together; and the sweep."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import apsw

from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.models import INTERNAL_PROJECT, QueueStats
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.sqlite.appending import Appending
from zaqar_notify.storage.sqlite.claims import SQLiteClaims
from zaqar_notify.storage.sqlite.control import SQLiteControl
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.sqlite.dead_letters import DeadLettering
from zaqar_notify.storage.sqlite.deleting import Deleting
from zaqar_notify.storage.sqlite.encrypted import EncryptedMessages
from zaqar_notify.storage.sqlite.failures import storage_errors
from zaqar_notify.storage.sqlite.heads import DROPPED_KEPT_MS, FORGOTTEN, SQLiteHeads
from zaqar_notify.storage.sqlite.messages import SQLiteMessages
from zaqar_notify.storage.sqlite.numbering import Numbering
from zaqar_notify.storage.sqlite.queue_rows import QueueRows
from zaqar_notify.storage.sqlite.removals import Removals, take_out
from zaqar_notify.storage.sqlite.scanning import Scanning
from zaqar_notify.storage.sqlite.stats import count_of_clients
from zaqar_notify.storage.sqlite.timekeeping import Timekeeping
from zaqar_notify.storage.sqlite.transfer import SQLiteTransfer
from zaqar_notify.storage.sqlite.watches import SQLiteWatches
from zaqar_notify.storage.values import to_ms

EXPIRED_MESSAGES = (
    "SELECT serial FROM messages INDEXED BY expiring_messages "
    "WHERE claim IS NULL AND expires_at <= ? LIMIT ?"
)
EXPIRED_ROWS = (
    "DELETE FROM remembered_posts WHERE (project, queue, key) IN (SELECT project, queue, key "
    "FROM remembered_posts INDEXED BY expiring_remembered_posts WHERE expires_at <= ? LIMIT ?)",
    "DELETE FROM cancellations WHERE (project, queue, what) IN (SELECT project, queue, what "
    "FROM cancellations INDEXED BY expiring_cancellations WHERE expires_at <= ? LIMIT ?)",
)
LEFT_BEHIND = "SELECT serial FROM messages INDEXED BY {index} WHERE queue = ? AND {state} LIMIT ?"
LEFT_BEHIND_BY_STATE = tuple(
    LEFT_BEHIND.format(index=index, state=state)
    for index, state in (
        ("free_messages", "held_until IS NULL"),
        ("held_messages", "held_until IS NOT NULL"),
    )
)


class SQLiteStore(MessageStore):
    """Opened by `await SQLiteStore.open(path)`; belongs to the loop it was opened in.

    `control` is the control store in the same file.
    """

    def __init__(self, database: Database, keys: Keyring) -> None:
        self.database = database
        sealing = Sealing(keys)
        self._watches = SQLiteWatches(
            lambda ref: messages.next_due_at(ref), lambda: self.clock.now()
        )
        rows = QueueRows(database)
        removals = Removals(database)
        scanning = Scanning(database, removals, self._watches, sealing)
        numbering = Numbering(database)
        appending = Appending(database, rows, numbering, self._watches)
        deleting = Deleting(rows, removals)
        messages = SQLiteMessages(
            database, rows, appending, deleting, removals, self._watches, scanning, sealing
        )
        self.control = SQLiteControl(database, keys)
        self.heads = SQLiteHeads(database, rows)
        self.messages = messages
        self.encrypted = EncryptedMessages(database, keys)
        letters = DeadLettering(rows, appending, sealing)
        self._claims = SQLiteClaims(
            database, rows, letters, deleting, removals, self._watches, scanning, sealing
        )
        self.claims = self._claims
        self._timekeeping = Timekeeping(database)
        self.clock = self._timekeeping.clock
        self.transfer = SQLiteTransfer(
            *(database, rows, numbering, removals, self._watches),
            now_ms=lambda: to_ms(self.clock.now()),
        )

    @classmethod
    async def open(cls, path: Path, *, keys: Keyring = NO_KEYS) -> SQLiteStore:
        """Open or create the file.

        Raises:
            StartRefused: It can't be used; the sentence gives the reason and a remedy.
        """
        database = Database.open(path)
        try:
            storage = cls(database, keys)
            await storage._claims.free_orphans()
            return storage
        except StorageUnavailable as error:
            await database.close()
            raise StartRefused(str(error)) from error

    async def volume(self, *, now: datetime) -> QueueStats:
        return await self.database.read_slowly(
            INTERNAL_PROJECT, lambda db: count_of_clients(db, to_ms(now))
        )

    async def identity(self) -> str:
        return str(self.database.read_value("SELECT id FROM identity"))

    async def ping(self) -> None:
        self.database.read_one("SELECT serials FROM numbering")

    async def prove(self) -> None:
        await self.database.prove()

    async def read_clock(self) -> datetime:
        """The one that stored instants are of."""
        return self._timekeeping.clock.now()

    async def sweep(self, *, now: datetime, limit: int) -> int:
        now_ms = to_ms(now)

        def write(db: apsw.Connection) -> int:
            expired = [row[0] for row in db.execute(EXPIRED_MESSAGES, (now_ms, limit))]
            take_out(db, expired)
            most = max(
                len(expired),
                self._claims.sweep(db, now=now_ms, limit=limit),
                _remove_left_behind(db, limit),
            )
            for statement in EXPIRED_ROWS:
                db.execute(statement, (now_ms, limit))
                most = max(most, db.changes())
            db.execute(FORGOTTEN, (now_ms - DROPPED_KEPT_MS, limit))
            most = max(most, db.changes())
            self._timekeeping.note(db)
            return most

        return await self.database.write(write)

    def stop_waiting(self) -> None:
        self._watches.stop()

    async def close(self) -> None:
        self._watches.stop()
        with storage_errors:
            await self.database.close()


def _remove_left_behind(db: apsw.Connection, limit: int) -> int:
    """Messages of queues that were deleted or purged; `limit` when there may be more of them."""
    number = db.execute("SELECT id FROM dropped_queues LIMIT 1").get
    if number is None:
        return 0
    serials: list[int] = []
    for statement in LEFT_BEHIND_BY_STATE:
        rows = db.execute(statement, (number, limit - len(serials)))
        serials += [row[0] for row in rows]
    take_out(db, serials)
    if len(serials) < limit:
        db.execute("DELETE FROM dropped_queues WHERE id = ?", (number,))
    return limit
