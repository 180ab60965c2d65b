"""Deletions of messages by id, one by one and several at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import msgspec
from pymongo import DeleteMany, UpdateMany

from zaqar_notify.errors import ClaimNotHeld, MessageIsClaimed, NotifyError, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.batch_delay import BatchDelay
from zaqar_notify.storage.batching import Batcher, BatchItem, all_of
from zaqar_notify.storage.ids import to_position
from zaqar_notify.storage.mongodb.cancelling import cancelling, is_delayed, is_not_delayed
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import id_of, is_of, live_claim, place
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_CLAIM, BY_ID, BY_MOVED_ID
from zaqar_notify.storage.mongodb.leasing import Leasing, removal
from zaqar_notify.storage.mongodb.paging import Paging, places_of
from zaqar_notify.storage.mongodb.queue_states import QueueStates
from zaqar_notify.storage.values import to_ms

DELETES_TOGETHER = 500
TRIES = 10


class Deletion(msgspec.Struct, frozen=True):
    ref: QueueRef
    message_id: str
    claim_id: str | None
    now: datetime


class Deleting:
    def __init__(
        self,
        collections: Collections,
        states: QueueStates,
        leasing: Leasing,
        paging: Paging,
        batch_delay: BatchDelay,
    ) -> None:
        self._messages = collections.messages
        self._states = states
        self._leasing = leasing
        self._find = paging.find
        self._deletions: Batcher[Deletion, None] = Batcher(
            self._delete_batch, most=DELETES_TOGETHER, batch_delay=batch_delay
        )

    async def close(self) -> None:
        await self._deletions.close()

    async def delete(self, deletion: Deletion) -> None:
        await self._deletions.call(deletion)

    async def _delete_batch(self, items: Sequence[BatchItem[Deletion, None]]) -> None:
        """Send one command for all. If it deleted too few messages, look at them one by one."""
        deletions = [item.request for item in items]
        if not await self._delete_expected(deletions):
            await self._delete_what_is_left(items)
            return
        for item in items:
            item.resolve(None)

    async def _delete_expected(self, deletions: Sequence[Deletion]) -> bool:
        """Delete the messages that are free or under the named claim; whether those were all.

        If the queue was purged since its id was remembered, the command deletes only messages that
        the purge left behind.
        """
        refs = list(dict.fromkeys(deletion.ref for deletion in deletions))
        found = await all_of([self._states.remembered_id(ref) for ref in refs])
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

    async def _delete_what_is_left(self, items: Sequence[BatchItem[Deletion, None]]) -> None:
        by_ref: dict[QueueRef, list[BatchItem[Deletion, None]]] = {}
        for item in items:
            by_ref.setdefault(item.request.ref, []).append(item)
        await all_of([self._delete_one_by_one(ref, its) for ref, its in by_ref.items()])

    async def _delete_one_by_one(
        self, ref: QueueRef, items: Sequence[BatchItem[Deletion, None]]
    ) -> None:
        state = await self._states.get(ref)
        there: set[str] = set()
        if state is not None:
            ids = [item.request.message_id for item in items]
            with storage_errors():
                found = await self._find(state.id, ids, {}, {"moved_id": 1})
            there = set(map(id_of, found))
        for item in items:
            try:
                if state is not None and item.request.message_id in there:
                    with storage_errors():
                        await self._delete_with_care(state.id, item.request)
            except NotifyError as error:
                item.fail(error)
            else:
                item.resolve(None)

    async def _delete_with_care(self, queue: bytes, deletion: Deletion) -> None:
        """Delete one message, or say why not."""
        now_ms = to_ms(deletion.now)
        message_id, claim_id = deletion.message_id, deletion.claim_id
        for _ in range(TRIES):
            found = await self._find(queue, [message_id], {"expires_at": {"$gt": deletion.now}})
            if not found:
                return
            [stored] = found
            holder = live_claim(stored, now_ms)
            if claim_id != holder:
                if holder is not None and (
                    claim_id is None or await self._is_live(queue, claim_id, now_ms)
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
            changed = await self._messages.update_one(same, cancelling(), hint=BY_ID)
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
        state = await self._states.get(ref)
        if state is None:
            return
        with storage_errors():
            if claim_ids is None:
                await self._delete_whoever_holds(state.id, ids, now)
            else:
                await self._delete_unless_held(state.id, ids, claim_ids, now)

    async def _delete_whoever_holds(self, queue: bytes, ids: Sequence[str], now: datetime) -> None:
        own, foreign = places_of(queue, ids)
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
        """Cancel those of the messages that are not due yet, and delete the others; the number of both."""
        delayed = {**wanted, **is_delayed(to_ms(now))}
        statements: Sequence[UpdateMany | DeleteMany] = [
            UpdateMany(delayed, cancelling(), hint=BY_ID),
            DeleteMany({**wanted, "due": {"$exists": True}}, hint=BY_ID),
        ]
        result = await rerun(lambda: self._messages.bulk_write(statements))
        return result.modified_count + result.deleted_count

    async def _delete_unless_held(
        self, queue: bytes, ids: Sequence[str], claim_ids: Sequence[str], now: datetime
    ) -> None:
        """Delete all, or none when one is under another claim.

        No claim must come between the look and the deletion, so free messages are held meanwhile. A
        transaction would do that too, but a process that is killed or paused inside one leaves its
        messages locked: for a minute and a half, all claims on the queue wait for them in vain.
        """
        now_ms = to_ms(now)
        lease = msgspec.structs.replace(removal(now), takes_leaving=True)
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
            # The claim came to its end meanwhile, perhaps, and another one has the rest.
            if deleted == len(found):
                return
        raise StorageUnavailable("The messages change hands too often")


def _expected(claim_id: str | None, instants: Sequence[int]) -> Document:
    """The condition on a message that may be deleted at each of these instants."""
    if claim_id is None:
        return {"held_until": {"$lte": min(instants)}}
    return {"claim": claim_id, "held_until": {"$gt": max(instants)}}


def _is_delayed(stored: Document, now: int) -> bool:
    return "claim" not in stored and int(stored["held_until"]) > now
