"""Moves of whole queues: the scripts of lua/transfer.lua, and places in what is read page by page."""

from __future__ import annotations

from typing import Any

from zaqar_notify.clock import new_id
from zaqar_notify.models import INTERNAL_PROJECT, QueueRef
from zaqar_notify.storage.base.transfer import (
    Changes,
    ChangesLost,
    CopiedPage,
    Part,
    StoredHead,
    Transfer,
    arriving,
)
from zaqar_notify.storage.ids import POSITIONS_PER_MS
from zaqar_notify.storage.internal import internal_ref
from zaqar_notify.storage.redis.batches import Batch, Batches, Operation
from zaqar_notify.storage.redis.heads import KnownHeads
from zaqar_notify.storage.redis.keys import member_of
from zaqar_notify.storage.redis.transfer_parts import (
    MovedRow,
    hex_of,
    imported,
    imported_cancellation,
    imported_key,
    record_of,
    to_cancelled,
    to_keys,
    to_moved,
)
from zaqar_notify.storage.redis.watches import RedisWatches
from zaqar_notify.storage.values import from_json, to_json

MESSAGES, KEYS, CANCELLED = "mkc"
"""The beginnings of places: of a position, and of cursors."""
_START = "0"
Changed = tuple[bool, list[MovedRow], list[str], list[str], list[str], int, bool]


class RedisTransfer(Transfer):
    def __init__(self, batches: Batches, known: KnownHeads, watches: RedisWatches) -> None:
        self._batches = batches
        self._known = known
        self._watches = watches

    # Of the store that a queue leaves.

    async def begin(self, ref: QueueRef) -> str | None:
        name, number = await self._batches.tell(ref, "begin", new_id())
        return f"{name}:{number}" if name else None

    async def read(self, ref: QueueRef, *, after: str | None, limit: int) -> CopiedPage:
        place = after or MESSAGES
        kind, at = place[0], place[1:]
        if kind == MESSAGES:
            rows = await self._batches.ask(ref, "export", at, limit, type_=list[MovedRow])
            following = f"{MESSAGES}{rows[-1][0]}" if rows else f"{KEYS}{_START}"
            return CopiedPage(Part(messages=[to_moved(row) for row in rows]), following)
        name = "answers" if kind == KEYS else "cancelled"
        cursor, found = await self._batches.ask(ref, "export_notes", name, at, limit)
        if kind == KEYS:
            ends = cursor == _START
            following = f"{CANCELLED}{_START}" if ends else f"{KEYS}{cursor}"
            return CopiedPage(Part(keys=to_keys(found)), following)
        return CopiedPage(
            Part(cancelled=to_cancelled(found)),
            None if cursor == _START else f"{CANCELLED}{cursor}",
        )

    async def changes(self, ref: QueueRef, cursor: str, *, limit: int) -> Changes:
        name, _, number = cursor.partition(":")
        known, rows, gone, answers, cancelled, last, is_all = await self._batches.tell(
            ref, "changes", name, int(number), limit, type_=Changed
        )
        if not known:
            raise ChangesLost
        part = Part(
            [to_moved(row) for row in rows],
            [int(position, 16) for position in gone],
            to_keys(answers),
            to_cancelled(cancelled),
        )
        return Changes(part, f"{name}:{last}", is_all)

    async def end(self, ref: QueueRef) -> None:
        await self._batches.tell(ref, "end")

    async def head(self, ref: QueueRef) -> StoredHead | None:
        answer = await self._batches.ask(ref, "whole_head")
        is_known, life, rules, revision, until, turn, salt, ms, count = answer
        if not is_known:
            return None
        behind = ms * POSITIONS_PER_MS + count + 1
        if not salt:
            return StoredHead("", b"", behind, None, revision)
        fixed = (life, bytes.fromhex(salt), behind, from_json(rules), revision)
        return StoredHead(*fixed, until or None, int(turn))

    async def drop(self, ref: QueueRef, life: str) -> None:
        await self._batches.tell(ref, "leave", life, _internal(ref), member_of(ref))
        self._known.forget(ref)

    # Of the store that it comes to.

    async def prepare(self, move: str, ref: QueueRef, salt: bytes) -> None:
        await self._arriving(move, ref, "prepare", arriving(move, ref), move, salt.hex())

    async def write(self, move: str, ref: QueueRef, part: Part) -> None:
        tag, queue = self._batches.keys.queue(ref)
        stand_in = self._key(move, ref)

        def build(batch: Batch) -> Operation:
            records = (record_of(ref, message) for message in part.messages)
            return (
                *("import", batch.queue(queue), batch.queue(stand_in), move),
                [imported(message) for message in part.messages],
                batch.record(*records),
                [hex_of(position) for position in part.gone],
                [imported_key(key) for key in part.keys],
                [imported_cancellation(one) for one in part.cancelled],
            )

        [may] = await self._batches.write(tag, build)
        if not may:
            raise ChangesLost

    async def activate(self, move: str, ref: QueueRef, head: StoredHead) -> None:
        last = head.next - 1
        rules = False if head.rules is None else to_json(head.rules)
        until, turn = head.subscribed_until or 0, str(head.turn)
        [is_here] = await self._arriving(
            *(move, ref, "activate", arriving(move, ref), move, new_id()),
            *(_internal(ref), member_of(ref), rules, head.revision, until, turn),
            *(last // POSITIONS_PER_MS, last % POSITIONS_PER_MS),
        )
        if not is_here:
            raise ChangesLost
        self._known.forget(ref)
        self._watches.visible(ref, 1)

    async def discard(self, move: str, ref: QueueRef) -> None:
        await self._arriving(move, ref, "discard", arriving(move, ref))

    async def _arriving(self, move: str, ref: QueueRef, name: str, *arguments: object) -> list[Any]:
        """An operation on a queue, and on the internal queue that stands for it until it is activated."""
        tag, queue = self._batches.keys.queue(ref)
        stand_in = self._key(move, ref)

        def build(batch: Batch) -> Operation:
            return (name, batch.queue(queue), batch.queue(stand_in), *arguments)

        answer: list[Any] = await self._batches.write(tag, build)
        return answer

    def _key(self, move: str, ref: QueueRef) -> str:
        return self._batches.keys.queue(internal_ref(arriving(move, ref)))[1]


def _internal(ref: QueueRef) -> str | bool:
    return ref.project == INTERNAL_PROJECT and ref.name
