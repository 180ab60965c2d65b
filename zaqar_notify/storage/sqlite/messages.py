"""Messages, in the order of their positions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from datetime import datetime

import apsw

from zaqar_notify.models import (
    INTERNAL_PROJECT,
    Message,
    NewMessage,
    Page,
    Posted,
    QueueRef,
    QueueStats,
)
from zaqar_notify.storage.base import IdempotencyKey, Messages, Post, Watch
from zaqar_notify.storage.base.transfer import digest_of_key
from zaqar_notify.storage.ids import to_id as id_of_new
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.sqlite.appending import Appending
from zaqar_notify.storage.sqlite.cancelling import cancel_all, find_cancelled
from zaqar_notify.storage.sqlite.database import Database, Row
from zaqar_notify.storage.sqlite.deleting import Deleting
from zaqar_notify.storage.sqlite.message_rows import (
    CLIENT,
    EXPIRES_AT,
    POSITION,
    SERIAL,
    opened,
    opened_or_refused,
    to_message,
)
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import Removals, take_out
from zaqar_notify.storage.sqlite.reserve import Grows
from zaqar_notify.storage.sqlite.rows import to_id, to_position
from zaqar_notify.storage.sqlite.scanning import Scanning
from zaqar_notify.storage.sqlite.statements import (
    IN_ORDER,
    MOVED_POSITION,
    NEXT_DUE,
    WHOLE_MOVED,
    WHOLE_OWN,
    lookups,
)
from zaqar_notify.storage.sqlite.stats import count, count_bytes, count_internal_bytes
from zaqar_notify.storage.sqlite.transfer_rows import transferred_key
from zaqar_notify.storage.sqlite.watches import SQLiteWatches
from zaqar_notify.storage.values import from_ms, to_ms

SKIPPED_IN_A_ROW = 500
"""Rows that a reader passes over before it lets other requests have a turn."""


class SQLiteMessages(Messages):
    def __init__(
        self,
        database: Database,
        rows: QueueRows,
        appending: Appending,
        deleting: Deleting,
        removals: Removals,
        watches: SQLiteWatches,
        scanning: Scanning,
        sealing: Sealing,
    ) -> None:
        self._database = database
        self._rows = rows
        self._appending = appending
        self._deleting = deleting
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
        if post.is_kept:
            first = self._appending.append(db, queue, messages, post.client_id, now)
        else:
            first = self._appending.number(db, queue, len(messages))
        salt = queue.salt
        ids = [id_of_new(position, salt) for position in range(first, first + len(messages))]
        jobs: Sequence[tuple[QueueRef, NewMessage]] = ()
        if queue.subscribed_until > now or post.notifies_later:
            jobs = post.jobs(rules, ids, messages)
            for outbox, job in jobs:
                self._appending.append(db, self._rows.need(db, outbox), [job], ref.project, now)
        if key is not None:
            db.execute(
                "INSERT OR REPLACE INTO remembered_posts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (ref.project, ref.name, key.key, key.fingerprint, first, len(messages), now + key.keep_seconds * 1000, salt),
            )  # fmt: skip
        return Posted(ids, owes_deliveries=bool(jobs))

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
        await self._scanning.free_what_fell_due(queue, now_ms)
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
                for statement, bindings in lookups(queue, message_id, (WHOLE_OWN,), WHOLE_MOVED):
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
        await self._database.write(
            lambda db: self._deleting.delete(db, queue, message_id, claim_id, now_ms)
        )

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

        await self._database.write(
            lambda db: self._deleting.delete_many(db, queue, ids, claim_ids, now_ms)
        )

    async def pop(self, ref: QueueRef, *, limit: int, now: datetime) -> list[Message]:
        queue = self._rows.get(ref)
        if queue is None:
            return []
        now_ms = to_ms(now)
        await self._scanning.free_what_fell_due(queue, now_ms)

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
        return await self._database.read_slowly(
            ref.project, lambda db: count(db, queue, to_ms(now))
        )

    async def stored_bytes(self, project: str, *, now: datetime) -> int:
        now_ms = to_ms(now)
        return await self._database.read_slowly(
            project, lambda db: count_bytes(db, project, now_ms)
        )

    async def internal_bytes(self, names: Sequence[str], *, now: datetime) -> int:
        now_ms = to_ms(now)
        return await self._database.read_slowly(
            INTERNAL_PROJECT, lambda db: count_internal_bytes(db, names, now_ms)
        )

    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        return self._watches.watch(ref, exclusive=exclusive)

    def next_due_at(self, ref: QueueRef) -> datetime | None:
        """The earliest instant at which a held message of the queue becomes free."""
        queue = self._rows.get(ref)
        if queue is None:
            return None
        row = self._database.read_one(NEXT_DUE, (queue.number,))
        return None if row is None else from_ms(row[0])

    def _marker_position(self, queue: QueueRow, marker: str) -> int | None:
        """The position that a marker names: of a message that moved, where it is here."""
        position = to_position(marker)
        if position is None:
            return None
        moved = self._database.read_one(MOVED_POSITION, (queue.number, marker))
        return position if moved is None else moved[0]


def _remembered(db: apsw.Connection, ref: QueueRef, key: IdempotencyKey, now: int) -> Posted | None:
    row = next(
        db.execute(
            "SELECT fingerprint, first_position, count, salt FROM remembered_posts "
            "WHERE project = ? AND queue = ? AND key IN (?, ?) AND expires_at > ?",
            (ref.project, ref.name, key.key, transferred_key(digest_of_key(ref, key.key)), now),
        ),
        None,
    )
    if row is None:
        return None
    fingerprint, first, count, salt = row
    key.check(fingerprint)
    return Posted([to_id(first + i, salt) for i in range(count)], owes_deliveries=False)
