"""Messages: pages, reads and deletes. What appends is in `posting`, what holds in `leasing`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from functools import partial

import msgspec
from pymongo import DeleteMany, UpdateMany

from zaqar_notify.errors import ClaimNotHeld, MessageIsClaimed, NotifyError, StorageUnavailable
from zaqar_notify.models import Message, Page, Posted, QueueRef
from zaqar_notify.storage.base import MessageStore, Post, Watch
from zaqar_notify.storage.gathering import Gathering
from zaqar_notify.storage.ids import to_position
from zaqar_notify.storage.mongodb.cancelling import (
    Cancelling,
    cancelling,
    is_delayed,
    is_not_delayed,
)
from zaqar_notify.storage.mongodb.connection import (
    BY_CLAIM,
    BY_DUE,
    BY_ID,
    BY_MOVED_ID,
    Connection,
    Document,
)
from zaqar_notify.storage.mongodb.documents import (
    FREE,
    QUEUE_ID_BYTES,
    distinct,
    id_of,
    is_of,
    live_claim,
    new_queue_id,
    place,
    to_id,
    to_message,
    to_ms,
)
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.grouping import Call, Together, TogetherByKey, all_of
from zaqar_notify.storage.mongodb.leasing import IN_ORDER, Leasing, removal
from zaqar_notify.storage.mongodb.popping import Popping
from zaqar_notify.storage.mongodb.posting import Posting
from zaqar_notify.storage.mongodb.records import LOOK_SECONDS, Record, Records
from zaqar_notify.storage.mongodb.waiting import Waiting

DELETES_TOGETHER = 500
READERS_TOGETHER = 1000
DUE_LOOK_SECONDS = 1.0
"""A page begun at a marker sees what fell due after it; so often it asks for what is before, too."""
DUE_LOOKS_KEPT = 10_000
TRIES = 10

NOTHING = Page([], None)


class Deletion(msgspec.Struct, frozen=True):
    ref: QueueRef
    message_id: str
    claim_id: str | None
    now: datetime


class Wanted(msgspec.Struct, frozen=True):
    """Which page; those who want the same may share it."""

    ref: QueueRef
    marker: str | None
    limit: int
    without_client: str | None
    include_claimed: bool
    include_delayed: bool


class MongoMessages(MessageStore):
    def __init__(
        self,
        connection: Connection,
        records: Records,
        leasing: Leasing,
        posting: Posting,
        waiting: Waiting,
        gathering: Gathering,
    ) -> None:
        self._connection = connection
        self._messages = connection.messages
        self._records = records
        self._cancelling = Cancelling(connection, records)
        self._leasing = leasing
        self._posting = posting
        self._waiting = waiting
        self._deletions: Together[Deletion, None] = Together(
            self._delete_group, most=DELETES_TOGETHER, gathering=gathering
        )
        self._popping = Popping(connection, records, leasing, gathering)
        self._pages: TogetherByKey[Wanted, datetime, Page] = TogetherByKey(
            self._share_page, most=READERS_TOGETHER
        )
        self._due_looks: dict[bytes, float] = {}

    async def close(self) -> None:
        await self._popping.close()
        await self._deletions.close()
        await self._pages.close()

    async def post(self, ref: QueueRef, post: Post, *, now: datetime) -> Posted:
        return await self._posting.post(ref, post, now)

    # Reading

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
        wanted = Wanted(ref, marker, limit, without_client, include_claimed, include_delayed)
        return await self._pages.call(wanted, now)

    async def _share_page(self, wanted: Wanted, calls: Sequence[Call[datetime, Page]]) -> None:
        """Many observers that read the same page at the same time are one reader of the store."""
        page = await self._page(wanted, max(call.ask for call in calls))
        for call in calls:
            call.answer(page)

    async def _page(self, wanted: Wanted, now: datetime) -> Page:
        now_ms = to_ms(now)
        end: int | None = None
        while True:
            record = await self._records.get(wanted.ref)
            if record is None:
                return NOTHING
            end = record.end if end is None else end
            with storage_errors():
                found = await self._read(wanted, record, now)
            if len(found) == wanted.limit or not record.hides_some or record.readable_to >= end:
                break
            # Another process's post, begun before one that was acknowledged, is still under way.
            await asyncio.sleep(LOOK_SECONDS)
        if not found:
            return NOTHING
        last = int.from_bytes(found[-1]["_id"][QUEUE_ID_BYTES:], "big")
        return Page([to_message(stored, now_ms) for stored in found], to_id(record.id, last))

    async def _read(self, wanted: Wanted, record: Record, now: datetime) -> list[Document]:
        """The page, as far as the record lets read."""
        marker, limit, now_ms = wanted.marker, wanted.limit, to_ms(now)
        start = 0 if marker is None else await self._after(record.id, marker)
        if start is None:
            return []
        conditions: Document = {**_between(record, start), "expires_at": {"$gt": now}}
        if wanted.without_client is not None:
            conditions["client"] = {"$ne": wanted.without_client}
        if wanted.include_claimed or wanted.include_delayed:
            conditions |= _states(
                now_ms, claimed=wanted.include_claimed, delayed=wanted.include_delayed
            )
            return await self._in_order(conditions, limit)
        return await self._free_in_order(record.id, conditions, limit, now_ms)

    async def _after(self, queue: bytes, marker: str) -> int | None:
        """The position behind a marker; None: it is no marker."""
        position = to_position(marker)
        if position is None:
            return None
        if not is_of(queue, marker):
            moved = await self._messages.find_one(
                {"queue": queue, "moved_id": marker}, {"_id": 1}, hint=BY_MOVED_ID
            )
            if moved is not None:
                position = int.from_bytes(moved["_id"][QUEUE_ID_BYTES:], "big")
        return position + 1

    async def _in_order(self, wanted: Document, limit: int) -> list[Document]:
        return await self._messages.find(
            wanted, sort=[("_id", 1)], limit=limit, batch_size=limit, hint=BY_ID
        ).to_list()

    async def _free_in_order(
        self, queue: bytes, wanted: Document, limit: int, now: int
    ) -> list[Document]:
        free = {
            **wanted,
            "due": {"$gte": -now, "$lte": FREE},
            "held_until": {"$lte": now},
        }
        if wanted["_id"]["$gte"] > place(queue, 0):
            await self._look_for_due(queue, now)
        while True:
            found = await self._messages.find(
                free, sort=IN_ORDER, limit=limit, batch_size=limit, hint=BY_DUE
            ).to_list()
            if not found or found[0]["due"] == FREE:
                return found
            await self._leasing.free_what_fell_due(queue, now)

    async def _look_for_due(self, queue: bytes, now: int) -> None:
        """So that what fell due before the markers that are read from does not pile up."""
        present = asyncio.get_running_loop().time()
        if present < self._due_looks.get(queue, 0.0) + DUE_LOOK_SECONDS:
            return
        if len(self._due_looks) >= DUE_LOOKS_KEPT:
            self._due_looks.clear()
        self._due_looks[queue] = present
        await self._leasing.free_what_fell_due(queue, now)

    async def get(self, ref: QueueRef, ids: Sequence[str], *, now: datetime) -> list[Message]:
        record = await self._records.get(ref)
        if record is None:
            return []
        with storage_errors():
            found = await self._find(record.id, ids, {"expires_at": {"$gt": now}})
        now_ms = to_ms(now)
        return [to_message(stored, now_ms) for stored in found]

    async def _find(
        self,
        queue: bytes,
        ids: Iterable[str],
        condition: Document,
    ) -> list[Document]:
        """The messages of those ids that meet the condition, in order."""
        own, foreign = _places(queue, ids)
        found: list[Document] = []
        if own:
            found = await self._messages.find(
                {"queue": queue, "_id": {"$in": own}, "due": {"$exists": True}, **condition},
                hint=BY_ID,
            ).to_list()
        if foreign:
            found += await self._messages.find(
                {"queue": queue, "moved_id": {"$in": foreign}, **condition},
                hint=BY_MOVED_ID,
            ).to_list()
        found.sort(key=_by_position)
        return found

    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        return self._waiting.watch(ref, exclusive=exclusive)

    # Deleting

    async def delete(
        self, ref: QueueRef, message_id: str, *, claim_id: str | None, now: datetime
    ) -> None:
        await self._deletions.call(Deletion(ref, message_id, claim_id, now))

    async def _delete_group(self, calls: Sequence[Call[Deletion, None]]) -> None:
        """One command when all goes as expected; what is left is looked at one by one."""
        deletions = [call.ask for call in calls]
        if not await self._delete_expected(deletions):
            await self._delete_what_is_left(calls)
            return
        for call in calls:
            call.answer(None)

    async def _delete_expected(self, deletions: Sequence[Deletion]) -> bool:
        """Delete what is free or under the claim that is named; whether that was all of them.

        A queue that was purged since its id was remembered has other ids now: what is deleted then
        was left behind.
        """
        refs = distinct_refs(deletion.ref for deletion in deletions)
        found = await all_of([self._records.remembered_id(ref) for ref in refs])
        queues = dict(zip(refs, found, strict=True))
        shares: dict[tuple[bytes, str | None], list[tuple[bytes, int]]] = {}
        for one in deletions:
            queue, position = queues[one.ref], to_position(one.message_id)
            if queue is None or position is None:
                continue
            if not is_of(queue, one.message_id):
                return False
            share = shares.setdefault((queue, one.claim_id), [])
            share.append((place(queue, position), to_ms(one.now)))
        places = {where for share in shares.values() for where, _ in share}
        if not places:
            return True
        expected = [
            {
                "_id": {"$in": [where for where, _ in share]},
                **_expected(claim_id, [now for _, now in share]),
            }
            for (_, claim_id), share in shares.items()
        ]
        # One statement for all, walking along their ids, is cheaper than one for each claim. An `$or`
        # in it would have the server weigh other ways to walk: a sixth of the command's cost.
        wanted = {
            "queue": {"$in": list({queue for queue, _ in shares})},
            "_id": {"$in": list(places)},
            "$nor": [{"$nor": expected}],
        }
        with storage_errors():
            result = await rerun(lambda: self._messages.delete_many(wanted, hint=BY_ID))
        return result.deleted_count == len(places)

    async def _delete_what_is_left(self, calls: Sequence[Call[Deletion, None]]) -> None:
        refs = distinct_refs(call.ask.ref for call in calls)
        found = await self._records.get_many(refs)
        records = dict(zip(refs, found, strict=True))
        with storage_errors():
            there = await self._still_there(records, [call.ask for call in calls])
        for call in calls:
            record = records[call.ask.ref]
            if record is None or (call.ask.ref, call.ask.message_id) not in there:
                call.answer(None)
                continue
            try:
                with storage_errors():
                    await self._delete_with_care(record, call.ask)
            except NotifyError as error:
                call.fail(error)
            else:
                call.answer(None)

    async def _still_there(
        self, records: dict[QueueRef, Record | None], deletions: Sequence[Deletion]
    ) -> set[tuple[QueueRef, str]]:
        """Which of them are there, and those that came from other queues, which may be."""
        there: set[tuple[QueueRef, str]] = set()
        named: dict[bytes, tuple[QueueRef, str]] = {}
        for one in deletions:
            record, position = records[one.ref], to_position(one.message_id)
            if record is None or position is None:
                continue
            if is_of(record.id, one.message_id):
                named[place(record.id, position)] = (one.ref, one.message_id)
            else:
                there.add((one.ref, one.message_id))
        if not named:
            return there
        queues = {record.id for record in records.values() if record is not None}
        found = self._messages.find(
            {"queue": {"$in": list(queues)}, "_id": {"$in": list(named)}},
            {"_id": 1},
            hint=BY_ID,
        )
        return there | {named[stored["_id"]] async for stored in found}

    async def _delete_with_care(self, record: Record, deletion: Deletion) -> None:
        """Delete one message, or say why not."""
        now_ms = to_ms(deletion.now)
        message_id, claim_id = deletion.message_id, deletion.claim_id
        for _ in range(TRIES):
            found = await self._find(record.id, [message_id], {"expires_at": {"$gt": deletion.now}})
            if not found:
                return
            [stored] = found
            holder = live_claim(stored, now_ms)
            if claim_id != holder:
                if holder is not None and (
                    claim_id is None or await self._is_live(record.id, claim_id, now_ms)
                ):
                    raise MessageIsClaimed(message_id)
                raise ClaimNotHeld(str(claim_id), message_id)
            if await self._delete_as_it_is(stored, deletion.now):
                return
        raise StorageUnavailable("The message changes hands too often")

    async def _delete_as_it_is(self, stored: Document, now: datetime) -> bool:
        """Delete the message unless it has changed hands; one that is not due yet is cancelled."""
        same = {
            "queue": stored["queue"],
            "_id": stored["_id"],
            "held_until": stored["held_until"],
            "claim": stored.get("claim"),
        }
        if _is_delayed(stored, to_ms(now)):
            changed = await self._messages.update_one(same, cancelling(now), hint=BY_ID)
            return changed.matched_count == 1
        return (await self._messages.delete_one(same, hint=BY_ID)).deleted_count == 1

    async def _is_live(self, queue: bytes, claim_id: str, now: int) -> bool:
        held = await self._messages.find_one(
            {"queue": queue, "claim": claim_id, "held_until": {"$gt": now}},
            {"_id": 1},
            hint=BY_CLAIM,
        )
        return held is not None

    async def delete_many(
        self,
        ref: QueueRef,
        ids: Sequence[str],
        *,
        claim_ids: Sequence[str] | None,
        now: datetime,
    ) -> None:
        record = await self._records.get(ref)
        if record is None:
            return
        with storage_errors():
            if claim_ids is None:
                await self._delete_whoever_holds(record.id, ids, now)
            else:
                await self._delete_unless_held(record.id, ids, claim_ids, now)

    async def _delete_whoever_holds(self, queue: bytes, ids: Sequence[str], now: datetime) -> None:
        own, foreign = _places(queue, ids)
        statements = []
        wanted = {"queue": queue, "_id": {"$in": own}, "due": {"$exists": True}}
        if own:
            due = {**wanted, **is_not_delayed(to_ms(now))}
            statements.append(DeleteMany(due, hint=BY_ID))
        if foreign:
            moved = {"queue": queue, "moved_id": {"$in": foreign}}
            statements.append(DeleteMany(moved, hint=BY_MOVED_ID))
        if not statements:
            return
        result = await rerun(lambda: self._messages.bulk_write(statements, ordered=False))
        if result.deleted_count < len(own) + len(foreign):
            await self._cancel_and_delete(wanted, now)

    async def _cancel_and_delete(self, wanted: Document, now: datetime) -> int:
        """Cancel what is not due yet of these messages, and delete the others; how many both are."""
        delayed = {**wanted, **is_delayed(to_ms(now))}
        statements: Sequence[UpdateMany | DeleteMany] = [
            UpdateMany(delayed, cancelling(now), hint=BY_ID),
            DeleteMany({**wanted, "due": {"$exists": True}}, hint=BY_ID),
        ]
        result = await rerun(lambda: self._messages.bulk_write(statements))
        return result.modified_count + result.deleted_count

    async def _delete_unless_held(
        self, queue: bytes, ids: Sequence[str], claim_ids: Sequence[str], now: datetime
    ) -> None:
        """Delete all, or none when one is under another claim.

        No claim must come between the look and the deletion, so what is free is held meanwhile. A
        transaction would do that too, but a process that is killed or paused inside one leaves its
        messages locked: for a minute and a half, all claims on the queue wait for them in vain.
        """
        now_ms = to_ms(now)
        lease = removal(now)
        holders = [*claim_ids, lease.claim_id]
        for _ in range(TRIES):
            found = await self._find(queue, ids, {"expires_at": {"$gt": now}})
            if not found:
                return
            for stored in found:
                holder = live_claim(stored, now_ms)
                if holder is not None and holder not in holders:
                    raise ClaimNotHeld(", ".join(claim_ids), id_of(stored))
            free = [stored for stored in found if stored["held_until"] <= now_ms]
            if free and len(await self._leasing.take(queue, [(lease, free)])) < len(free):
                await self._leasing.give_back(queue, lease)
                continue
            ours = {
                "queue": queue,
                "_id": {"$in": [stored["_id"] for stored in found]},
                # None: it is delayed.
                "claim": {"$in": [*holders, None]},
            }
            if any(_is_delayed(stored, now_ms) for stored in found):
                deleted = await self._cancel_and_delete(ours, now)
            else:
                result = await rerun(partial(self._messages.delete_many, ours, hint=BY_ID))
                deleted = result.deleted_count
            # Another claim has what is left, perhaps: ours came to its end meanwhile.
            if deleted == len(found):
                return
        raise StorageUnavailable("The messages change hands too often")

    async def pop(self, ref: QueueRef, *, limit: int, now: datetime) -> list[Message]:
        return await self._popping.pop(ref, limit=limit, now=now)

    async def purge(self, ref: QueueRef, *, now: datetime) -> None:
        with storage_errors():
            await self._cancelling.end_life(ref, [{"$set": leave_messages_behind()}], now=now)

    async def cancelled(self, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        return await self._cancelling.find(ref, due)


def leave_messages_behind() -> Document:
    """The part of an update of a queue's document that takes all its messages away from it."""
    return {
        "dropped": {"$concatArrays": [{"$ifNull": ["$dropped", []]}, ["$queue"]]},
        "queue": {"$literal": new_queue_id()},
        "in_flight": {"$literal": {}},
    }


def distinct_refs(refs: Iterable[QueueRef]) -> list[QueueRef]:
    return list(dict.fromkeys(refs))


def _places(queue: bytes, ids: Iterable[str]) -> tuple[list[bytes], list[str]]:
    """Where the queue's own messages of these ids are, and the ids that are of other queues."""
    own: list[bytes] = []
    foreign: list[str] = []
    for message_id in distinct(ids):
        position = to_position(message_id)
        if position is None:
            continue
        if is_of(queue, message_id):
            own.append(place(queue, position))
        else:
            foreign.append(message_id)
    return own, foreign


def _between(record: Record, start: int) -> Document:
    """From a position on, as far as the queue can be read."""
    end = place(record.id, record.readable_to)
    return {"queue": record.id, "_id": {"$gte": place(record.id, start), "$lt": end}}


def _states(now: int, *, claimed: bool, delayed: bool) -> Document:
    """Of which states a page that includes held messages is."""
    if claimed and delayed:
        return {"due": {"$exists": True}}
    held = {"claim": {"$exists": claimed}}
    return {"due": {"$exists": True}, "$or": [{"held_until": {"$lte": now}}, held]}


def _expected(claim_id: str | None, instants: Sequence[int]) -> Document:
    """What a message is that may be deleted, at each of these instants."""
    if claim_id is None:
        return {"held_until": {"$lte": min(instants)}}
    return {"claim": claim_id, "held_until": {"$gt": max(instants)}}


def _is_delayed(stored: Document, now: int) -> bool:
    return "claim" not in stored and int(stored["held_until"]) > now


def _by_position(stored: Document) -> bytes:
    where: bytes = stored["_id"]
    return where
