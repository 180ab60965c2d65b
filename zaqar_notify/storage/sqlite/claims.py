"""Claims: a row each, and the messages that name them."""

from __future__ import annotations

import array
from collections.abc import Collection, Sequence, Set
from datetime import datetime
from functools import partial

import apsw
import msgspec

from zaqar_notify.errors import ClaimNotHeld
from zaqar_notify.models import INTERNAL_PROJECT, Claim, QueueRef
from zaqar_notify.storage.base import (
    FREED_AT_START_CLAIMS,
    Carry,
    Claims,
    DeadLetterRule,
    within_the_store,
)
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.dead_letters import DeadLettering
from zaqar_notify.storage.sqlite.deleting import Deleting
from zaqar_notify.storage.sqlite.message_rows import (
    MESSAGE_COLUMNS,
    SERIAL,
    opened,
    to_claimed_message,
    to_message,
)
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import Removals, take_out
from zaqar_notify.storage.sqlite.scanning import Scanning
from zaqar_notify.storage.sqlite.statements import marks
from zaqar_notify.storage.sqlite.watches import SQLiteWatches
from zaqar_notify.storage.values import from_ms, to_ms

_HELD = (
    f"SELECT {MESSAGE_COLUMNS} FROM messages m CROSS JOIN bodies b ON b.serial = m.serial "
    "WHERE m.serial = ? AND m.claim = ? AND m.held_until > ? AND m.expires_at > ?"
)


class _Lease(msgspec.Struct, frozen=True):
    """A claim in the making: its end, and how long its messages live at least, in milliseconds."""

    id: str
    ttl: int
    ends_at: int
    kept_until: int

    @classmethod
    def begun(cls, claim_id: str, ttl: int, grace: int, now: int) -> _Lease:
        return cls(claim_id, ttl, now + ttl * 1000, now + (ttl + grace) * 1000)


class SQLiteClaims(Claims):
    def __init__(
        self,
        database: Database,
        rows: QueueRows,
        dead_lettering: DeadLettering,
        deleting: Deleting,
        removals: Removals,
        watches: SQLiteWatches,
        scanning: Scanning,
        sealing: Sealing,
    ) -> None:
        self._database = database
        self._scanning = scanning
        self._sealing = sealing
        self._removals = removals
        self._rows = rows
        self._dead_lettering = dead_lettering
        self._deleting = deleting
        self._watches = watches

    async def create(
        self,
        ref: QueueRef,
        *,
        claim_id: str,
        ttl: int,
        grace: int,
        limit: int,
        now: datetime,
        dead_letter: DeadLetterRule | None = None,
        carry: Carry = within_the_store,
        without_clients: Collection[str] = (),
        is_durable: bool = True,
    ) -> Claim | None:
        if self._rows.get(ref) is None:
            return None
        now_ms = to_ms(now)
        lease = _Lease.begun(claim_id, ttl, grace, now_ms)

        def write(db: apsw.Connection) -> tuple[Claim | None, bool]:
            """The claim; or None and whether to go on, after a bounded part of the work."""
            queue = self._rows.find(db, ref)
            if queue is None:
                return None, False
            if not self._scanning.free_fallen_due(db, queue, now_ms):
                return None, True
            rule = None if dead_letter is None else dead_letter(queue.rules)
            most = None if rule is None else rule.max_claim_count
            found = self._scanning.scan(db, queue, limit, now_ms, most, without_clients)
            take_out(db, found.expired)
            if rule is not None and found.exhausted:
                self._dead_lettering.put_away(db, queue, found.exhausted, rule, carry(rule), now_ms)
            if not found.taken:
                return None, found.is_cut
            return self._hold(db, queue, lease, found.taken, now_ms), False

        while True:
            claim, goes_on = await self._database.write(write)
            if not goes_on:
                return claim

    def _hold(
        self, db: apsw.Connection, queue: QueueRow, lease: _Lease, rows: list[Row], now: int
    ) -> Claim:
        serials = [row[SERIAL] for row in rows]
        db.execute(
            "UPDATE messages SET held_until = ?, claim = ?, claim_count = claim_count + 1, "
            f"expires_at = max(expires_at, ?) WHERE serial IN ({marks(len(serials))})",
            (lease.ends_at, lease.id, lease.kept_until, *serials),
        )
        db.execute(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?)",
            (
                lease.id,
                queue.number,
                lease.ttl,
                lease.ends_at,
                array.array("q", serials).tobytes(),
            ),
        )
        self._database.after_commit.append(partial(self._watches.held, queue.ref))
        messages = [
            to_claimed_message(row, queue.salt, claim_id=lease.id, kept_until=lease.kept_until)
            for row in rows
        ]
        return Claim(lease.id, lease.ttl, from_ms(lease.ends_at), messages)

    async def get(self, ref: QueueRef, claim_id: str, *, now: datetime) -> Claim | None:
        queue = self._rows.get(ref)
        if queue is None:
            return None
        now_ms = to_ms(now)
        row = self._database.read_one(_CLAIM, (claim_id, queue.number, now_ms))
        if row is None:
            return None
        ttl, expires_at, serials = row
        rows: list[Row] = []
        with self._database.errors:
            for serial in array.array("q", serials):
                if serial in self._removals.removed:
                    continue
                rows += self._database.read(_HELD, (serial, claim_id, now_ms, now_ms))
        if not rows:
            return None
        clear = [opened(row, ref, self._sealing) for row in rows]
        messages = [to_message(row, queue.salt, now_ms) for row in clear if row is not None]
        return Claim(claim_id, ttl, from_ms(expires_at), messages)

    async def renew_many(
        self, ref: QueueRef, claim_ids: Sequence[str], *, ttl: int, grace: int, now: datetime
    ) -> Set[str]:
        now_ms = to_ms(now)

        def write(db: apsw.Connection) -> Set[str]:
            leases = (_Lease.begun(claim_id, ttl, grace, now_ms) for claim_id in claim_ids)
            renewed = {lease.id for lease in leases if self._renew(db, ref, lease, now_ms)}
            if renewed:
                self._database.after_commit.append(partial(self._watches.held, ref))
            return renewed

        return await self._database.write(write)

    def _renew(self, db: apsw.Connection, ref: QueueRef, lease: _Lease, now: int) -> bool:
        serials = self._serials(db, ref, lease.id, now)
        if not serials:
            return False
        db.execute(
            "UPDATE messages SET held_until = ?, expires_at = max(expires_at, ?) "
            f"WHERE claim = ? AND held_until > ? AND serial IN ({marks(len(serials))})",
            (lease.ends_at, lease.kept_until, lease.id, now, *serials),
        )
        if not db.changes():
            return False
        db.execute(
            "UPDATE claims SET ttl = ?, expires_at = ? WHERE id = ?",
            (lease.ttl, lease.ends_at, lease.id),
        )
        return True

    async def renew_message(
        self,
        ref: QueueRef,
        claim_id: str,
        message_id: str,
        *,
        ttl: int,
        grace: int,
        now: datetime,
    ) -> None:
        lease = _Lease.begun(claim_id, ttl, grace, to_ms(now))

        def write(db: apsw.Connection) -> None:
            serial = self._deleting.held_by(db, ref, claim_id, message_id, to_ms(now))
            if serial is None:
                raise ClaimNotHeld(claim_id, message_id)
            self._renew_one(db, lease, serial)
            wake = self._watches.held if ttl else partial(self._watches.visible, count=1)
            self._database.after_commit.append(partial(wake, ref))

        await self._database.write(write)

    def _renew_one(self, db: apsw.Connection, lease: _Lease, serial: int) -> None:
        hold = (lease.ends_at, lease.id) if lease.ttl else (None, None)
        db.execute(
            "UPDATE messages SET held_until = ?, claim = ?, expires_at = max(expires_at, ?) "
            "WHERE serial = ?",
            (*hold, lease.kept_until, serial),
        )
        for (serials,) in db.execute("SELECT serials FROM claims WHERE id = ?", (lease.id,)):
            held = array.array("q", serials)
            db.execute(
                "UPDATE claims SET expires_at = (SELECT coalesce(max(held_until), 0) FROM messages "
                f"WHERE claim = ? AND serial IN ({marks(len(held))})) WHERE id = ?",
                (lease.id, *held, lease.id),
            )

    async def release(
        self, ref: QueueRef, claim_id: str, *, now: datetime, counted: bool = True
    ) -> None:
        now_ms = to_ms(now)

        def write(db: apsw.Connection) -> None:
            serials = self._serials(db, ref, claim_id, now_ms)
            if serials is None:
                return
            db.execute(
                "UPDATE messages SET held_until = NULL, claim = NULL, claim_count = claim_count - ? "
                f"WHERE claim = ? AND held_until > ? AND serial IN ({marks(len(serials))})",
                (0 if counted else 1, claim_id, now_ms, *serials),
            )
            released = db.changes()
            db.execute("DELETE FROM claims WHERE id = ?", (claim_id,))
            self._database.after_commit.append(partial(self._watches.visible, ref, released))

        await self._database.write(write)

    async def free_orphans(self) -> None:
        """Free the messages that a former process held on internal queues, except those claimed often."""

        def write(db: apsw.Connection) -> None:
            orphans: list[Row] = db.execute(ORPHANS, (INTERNAL_PROJECT,)).fetchall()
            for claim_id, serials in orphans:
                held = array.array("q", serials)
                db.execute(
                    "UPDATE messages SET held_until = NULL, claim = NULL "
                    f"WHERE claim = ? AND claim_count <= ? AND serial IN ({marks(len(held))})",
                    (claim_id, FREED_AT_START_CLAIMS, *held),
                )

        if self._database.read_one(ORPHANS, (INTERNAL_PROJECT,)) is not None:
            await self._database.write(write)

    def sweep(self, db: apsw.Connection, *, now: int, limit: int) -> int:
        """Remove expired claims and free their messages, for writes of any store; the number of claims."""
        expired: list[Row] = db.execute(
            "SELECT id, queue, serials FROM claims INDEXED BY expiring_claims "
            "WHERE expires_at <= ? LIMIT ?",
            (now, limit),
        ).fetchall()
        for claim_id, number, serials in expired:
            held = array.array("q", serials)
            db.execute(
                "UPDATE messages SET held_until = NULL, claim = NULL "
                f"WHERE claim = ? AND serial IN ({marks(len(held))})",
                (claim_id, *held),
            )
            db.execute("DELETE FROM claims WHERE id = ?", (claim_id,))
            ref = self._rows.ref(db, number)
            if ref is not None:
                freed = partial(self._watches.visible, ref, len(held))
                self._database.after_commit.append(freed)
        return len(expired)

    def _serials(
        self, db: apsw.Connection, ref: QueueRef, claim_id: str, now: int
    ) -> Sequence[int] | None:
        """Where the messages are that the live claim was made of, without the deleted ones; None when
        there is no such claim."""
        queue = self._rows.find(db, ref)
        if queue is not None:
            for row in db.execute(_CLAIM, (claim_id, queue.number, now)):
                made_of = array.array("q", row[2])
                return [one for one in made_of if not self._removals.has(one)]
        return None


_CLAIM = "SELECT ttl, expires_at, serials FROM claims WHERE id = ? AND queue = ? AND expires_at > ?"
ORPHANS = (
    "SELECT c.id, c.serials FROM claims c CROSS JOIN queues q ON q.id = c.queue WHERE q.project = ?"
)
