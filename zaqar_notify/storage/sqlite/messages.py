"""Messages, in the order of their positions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from functools import partial

import apsw
import msgspec

from zaqar_notify.errors import ClaimNotHeld, MessageIsClaimed
from zaqar_notify.models import (
    INTERNAL_PROJECT,
    DeadLetter,
    Message,
    NewMessage,
    Page,
    Posted,
    QueueRef,
    QueueStats,
)
from zaqar_notify.storage.base import IdempotencyKey, Messages, Post, Watch
from zaqar_notify.storage.ids import to_id as id_of_new
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.sqlite.cancelling import cancel, cancel_all, find_cancelled
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.message_rows import (
    BODY,
    CLIENT,
    EXPIRES_AT,
    POSITION,
    SERIAL,
    Values,
    moved_values,
    new_values,
    opened,
    opened_or_refused,
    to_message,
)
from zaqar_notify.storage.sqlite.numbering import Numbering
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import Removals, take_out
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import own_position, to_id, to_position
from zaqar_notify.storage.sqlite.scanning import Scanning
from zaqar_notify.storage.sqlite.statements import (
    FALLEN_DUE,
    IN_ORDER,
    MOVED,
    MOVED_POSITION,
    NEXT_DUE,
    OWN,
    OWN_CLAIMED,
    ROWS_PER_STATEMENT,
    WHOLE_MOVED,
    WHOLE_OWN,
    first_value,
    inserts,
)
from zaqar_notify.storage.sqlite.stats import count, count_bytes
from zaqar_notify.storage.sqlite.watches import SQLiteWatches
from zaqar_notify.storage.values import from_ms, to_ms

FREED_AT_ONCE = 500
"""Held messages that fell due are freed in writes of this many, a few milliseconds each."""
SKIPPED_IN_A_ROW = 500
"""Rows that a reader passes over before it lets other requests have a turn."""


class SQLiteMessages(Messages):
    def __init__(
        self,
        database: Database,
        rows: QueueRows,
        numbering: Numbering,
        removals: Removals,
        watches: SQLiteWatches,
        scanning: Scanning,
        sealing: Sealing,
    ) -> None:
        self._database = database
        self._rows = rows
        self._numbering = numbering
        self._removals = removals
        self._watches = watches
        self._scanning = scanning
        self._sealing = sealing

    async def post(self, ref: QueueRef, post: Post, *, now: datetime) -> Posted:
        now_ms = to_ms(now)
        grows = Grows.ENGINE if ref.project == INTERNAL_PROJECT else Grows.CLIENTS
        sealed = self._sealing.sealed(ref, post)
        return await self._database.write(
            lambda db: self._post(db, ref, sealed, now_ms), grows=grows
        )

    def _post(self, db: apsw.Connection, ref: QueueRef, post: Post, now: int) -> Posted:
        key = post.idempotency_key
        if key is not None and (remembered := _remembered(db, ref, key, now)) is not None:
            return remembered
        queue = self._rows.find(db, ref)
        rules = {} if queue is None else queue.rules
        messages = post.messages_for(rules)
        queue = queue or self._rows.make(db, ref)
        first = self.append(db, queue, messages, post.client_id, now)
        salt = queue.salt
        ids = [id_of_new(position, salt) for position in range(first, first + len(messages))]
        jobs: Sequence[tuple[QueueRef, NewMessage]] = ()
        if queue.subscribed_until > now:
            jobs = post.jobs(rules, ids, messages)
            for outbox, job in jobs:
                self.append(db, self._rows.need(db, outbox), [job], ref.project, now)
        if key is not None:
            db.execute(
                "INSERT OR REPLACE INTO remembered_posts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (ref.project, ref.name, key.key, key.fingerprint, first, len(messages), now + key.keep_seconds * 1000, salt),
            )  # fmt: skip
        return Posted(ids, owes_deliveries=bool(jobs))

    def append(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
    ) -> int:
        """Add messages at the end of the queue, for writes of any store; the first one's position."""
        rows = [(new_values(message, client_id, now), message.body) for message in messages]
        first = self._insert(db, queue, rows)
        visible = [message.delay for message in messages].count(0)
        if visible:
            self._database.after_commit.append(partial(self._watches.visible, queue.ref, visible))
        if visible < len(messages):
            self._database.after_commit.append(partial(self._watches.held, queue.ref))
        return first

    def append_moved(
        self, db: apsw.Connection, rows: Sequence[Row], salt: bytes, to: DeadLetter, now: int
    ) -> None:
        """Append messages of a queue of this salt to the dead-letter queue, under the ids they have."""
        queue = self._rows.need(db, to.queue)
        self._insert(db, queue, [(moved_values(row, salt, to.ttl, now), row[BODY]) for row in rows])
        self._database.after_commit.append(partial(self._watches.visible, queue.ref, len(rows)))

    def _insert(
        self, db: apsw.Connection, queue: QueueRow, rows: Sequence[tuple[Values, bytes]]
    ) -> int:
        """Number rows in order at the end of the queue, and write them; the first one's position."""
        serial, first = self._numbering.take(db, queue.ref, len(rows))
        for start in range(0, len(rows), ROWS_PER_STATEMENT):
            part = rows[start : start + ROWS_PER_STATEMENT]
            states: list[object] = [queue.number, serial + start, first + start]
            bodies: list[object] = [serial + start]
            for values, body in part:
                states += values
                bodies.append(body)
            insert_states, insert_bodies = inserts(len(part))
            db.execute(insert_states, states)
            db.execute(insert_bodies, bodies)
        return first

    async def page(
        self,
        ref: QueueRef,
        *,
        marker: str | None,
        limit: int,
        now: datetime,
        without_client: str | None = None,
        include_claimed: bool = False,
        include_delayed: bool = False,
    ) -> Page:
        queue = self._rows.get(ref)
        if queue is None:
            return Page([], None)
        position = 0 if marker is None else self._marker_position(queue, marker)
        if position is None:
            return Page([], None)
        now_ms = to_ms(now)
        await self._free_what_fell_due(queue.number, ref, now_ms)
        rows = self._database.read(
            IN_ORDER[include_claimed, include_delayed], {"queue": queue.number, "after": position}
        )
        removed = self._removals.removed
        messages: list[Message] = []
        last = skipped = 0
        try:
            with self._database.errors:
                for row in rows:
                    clear: Row | None = None
                    if (
                        row[EXPIRES_AT] > now_ms
                        and row[CLIENT] != without_client
                        and row[SERIAL] not in removed
                    ):
                        clear = opened(row, ref, self._sealing)
                    if clear is None:
                        skipped += 1
                        if skipped % SKIPPED_IN_A_ROW == 0:
                            await asyncio.sleep(0)
                        continue
                    messages.append(to_message(clear, queue.salt, now_ms))
                    last = row[POSITION]
                    if len(messages) == limit:
                        break
        finally:
            rows.close()
        return Page(messages, to_id(last, queue.salt) if messages else None)

    async def get(self, ref: QueueRef, ids: Sequence[str], *, now: datetime) -> list[Message]:
        queue = self._rows.get(ref)
        if queue is None:
            return []
        now_ms = to_ms(now)
        rows: list[Row] = []
        with self._database.errors:
            for message_id in dict.fromkeys(ids):
                for statement, bindings in _lookups(queue, message_id, (WHOLE_OWN,), WHOLE_MOVED):
                    rows += self._database.read(statement, bindings)
        removed = self._removals.removed
        return [
            to_message(opened_or_refused(row, ref, self._sealing), queue.salt, now_ms)
            for row in sorted(rows)
            if row[EXPIRES_AT] > now_ms and row[SERIAL] not in removed
        ]

    async def delete(
        self, ref: QueueRef, message_id: str, *, claim_id: str | None, now: datetime
    ) -> None:
        queue = self._rows.get(ref)
        if queue is None:
            return
        now_ms = to_ms(now)
        await self._database.write(lambda db: self._delete(db, queue, message_id, claim_id, now_ms))

    async def delete_many(
        self,
        ref: QueueRef,
        ids: Sequence[str],
        *,
        claim_ids: Sequence[str] | None,
        now: datetime,
    ) -> None:
        queue = self._rows.get(ref)
        if queue is None:
            return
        now_ms = to_ms(now)

        def write(db: apsw.Connection) -> None:
            found = {
                message_id: one
                for message_id in ids
                if (one := self._find(db, queue, message_id, now_ms))
            }
            for message_id, one in found.items():
                if claim_ids is not None and one.holder not in {None, *claim_ids}:
                    raise ClaimNotHeld(", ".join(claim_ids), message_id)
            self._remove(db, queue, found, now_ms)

        await self._database.write(write)

    async def pop(self, ref: QueueRef, *, limit: int, now: datetime) -> list[Message]:
        queue = self._rows.get(ref)
        if queue is None:
            return []
        now_ms = to_ms(now)
        await self._free_what_fell_due(queue.number, ref, now_ms)

        def write(db: apsw.Connection) -> tuple[list[Message], bool]:
            found = self._scanning.scan(db, queue, limit, now_ms)
            self._removals.add(db, [row[SERIAL] for row in found.taken])
            take_out(db, found.expired)
            return [to_message(row, queue.salt, now_ms) for row in found.taken], found.is_cut

        while True:
            messages, is_cut = await self._database.write(write)
            if messages or not is_cut:
                return messages

    async def purge(self, ref: QueueRef, *, now: datetime) -> None:
        def write(db: apsw.Connection) -> None:
            queue = self._rows.find(db, ref)
            if queue is not None:
                cancel_all(db, ref, queue.number, queue.salt, to_ms(now))
                self._rows.renumber(db, queue)

        await self._database.write(write)

    async def cancelled(self, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        return find_cancelled(self._database, ref, due)

    async def stats(self, ref: QueueRef, *, now: datetime) -> QueueStats:
        queue = self._rows.get(ref)
        if queue is None:
            return QueueStats(claimed=0, free=0)
        return await self._database.read_slowly(lambda db: count(db, queue, to_ms(now)))

    async def stored_bytes(self, project: str, *, now: datetime) -> int:
        now_ms = to_ms(now)
        return await self._database.read_slowly(lambda db: count_bytes(db, project, now_ms))

    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        return self._watches.watch(ref, exclusive=exclusive)

    def next_due_at(self, ref: QueueRef) -> datetime | None:
        """The earliest instant at which a held message of the queue becomes free."""
        queue = self._rows.get(ref)
        if queue is None:
            return None
        row = self._database.read_one(NEXT_DUE, (queue.number,))
        return None if row is None else from_ms(row[0])

    def held_by(
        self, db: apsw.Connection, ref: QueueRef, claim_id: str, message_id: str, now: int
    ) -> int | None:
        """The serial number of a message, for writes, if a live claim of that id holds it."""
        queue = self._rows.find(db, ref)
        found = None if queue is None else self._find(db, queue, message_id, now, claim_id)
        return found.serial if found is not None and found.holder == claim_id else None

    def _find(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        message_id: str,
        now: int,
        claim_id: str | None = None,
    ) -> FoundMessage | None:
        """A message that exists, by its id; if the caller names a claim, it is sought among claimed ones first."""
        own = (OWN,) if claim_id is None else (OWN_CLAIMED, OWN)
        for statement, bindings in _lookups(queue, message_id, own, MOVED):
            for serial, claim, held_until, expires_at in db.execute(statement, bindings):
                if expires_at > now and not self._removals.has(serial):
                    is_held = held_until is not None and held_until > now
                    return FoundMessage(
                        serial, claim if is_held else None, is_held and claim is None
                    )
        return None

    def _delete(
        self, db: apsw.Connection, queue: QueueRow, message_id: str, claim_id: str | None, now: int
    ) -> None:
        found = self._find(db, queue, message_id, now, claim_id)
        if found is None:
            return
        if claim_id != found.holder:
            if found.holder is not None and (
                claim_id is None or _is_live(db, queue.number, claim_id, now)
            ):
                raise MessageIsClaimed(message_id)
            raise ClaimNotHeld(str(claim_id), message_id)
        self._remove(db, queue, {message_id: found}, now)

    def _remove(
        self, db: apsw.Connection, queue: QueueRow, found: Mapping[str, FoundMessage], now: int
    ) -> None:
        """Delete messages by their ids, and note those that are not due yet."""
        self._removals.add(db, [one.serial for one in found.values()])
        delayed = [message_id for message_id, one in found.items() if one.is_delayed]
        if delayed:
            cancel(db, queue.ref, delayed, now)

    async def _free_what_fell_due(self, number: int, ref: QueueRef, now: int) -> None:
        """Free due messages, so that one index has all visible messages in order; once for each hold."""
        while self._database.read_one(FALLEN_DUE, (number, now, 1)) is not None:
            await self._database.write(lambda db: self.free_fallen_due(db, number, ref, now))

    def free_fallen_due(self, db: apsw.Connection, number: int, ref: QueueRef, now: int) -> bool:
        """Free held messages of the queue that are due, up to a bound; for writes of any store.

        Returns:
            Whether that was all of them.
        """
        due = db.execute(FALLEN_DUE, (number, now, FREED_AT_ONCE)).fetchall()
        if due:
            db.executemany(
                "UPDATE messages SET held_until = NULL, claim = NULL WHERE serial = ?", due
            )
            self._database.after_commit.append(partial(self._watches.visible, ref, len(due)))
        return len(due) < FREED_AT_ONCE

    def _marker_position(self, queue: QueueRow, marker: str) -> int | None:
        """The position that a marker names: of a message that moved, where it is here."""
        position = to_position(marker)
        if position is None:
            return None
        moved = self._database.read_one(MOVED_POSITION, (queue.number, marker))
        return position if moved is None else moved[0]


def _lookups(
    queue: QueueRow, message_id: str, own: Iterable[str], moved: str
) -> Iterator[tuple[str, tuple[int, int | str]]]:
    """The statements that find a message by its id, the likely one first, with their bindings."""
    position = own_position(queue.salt, message_id)
    if position is not None:
        for statement in own:
            yield statement, (queue.number, position)
    yield moved, (queue.number, message_id)


class FoundMessage(msgspec.Struct, frozen=True):
    """A message by its serial number: the live claim on it, if any, or whether it is delayed."""

    serial: int
    holder: str | None
    is_delayed: bool


def _remembered(db: apsw.Connection, ref: QueueRef, key: IdempotencyKey, now: int) -> Posted | None:
    row = next(
        db.execute(
            "SELECT fingerprint, first_position, count, salt FROM remembered_posts "
            "WHERE project = ? AND queue = ? AND key = ? AND expires_at > ?",
            (ref.project, ref.name, key.key, now),
        ),
        None,
    )
    if row is None:
        return None
    fingerprint, first, count, salt = row
    key.check(fingerprint)
    return Posted([to_id(first + i, salt) for i in range(count)], owes_deliveries=False)


def _is_live(db: apsw.Connection, number: int, claim_id: str, now: int) -> bool:
    statement = "SELECT 1 FROM claims WHERE id = ? AND queue = ? AND expires_at > ?"
    return first_value(db, statement, (claim_id, number, now)) is not None
