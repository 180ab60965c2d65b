"""Transfers of queues from and to the database.

A queue that comes has a document in `queues` as an internal queue, whose id already begins with the salt that
the queue has. To activate it, its own document takes over that id, in one write.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

import msgspec
from bson import Int64

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import (
    TRANSFERRED_BYTES,
    Changes,
    ChangesLost,
    CopiedPage,
    Part,
    StoredHead,
    Transfer,
    arriving,
)
from zaqar_notify.storage.ids import SALT_BYTES
from zaqar_notify.storage.internal import internal_ref
from zaqar_notify.storage.mongodb.blocks import Blocks, BlockState
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    FREE,
    HAS_HEAD,
    QUEUE_ID_BYTES,
    key_shard,
    new_queue_id,
    place,
    position_at,
    queue_key,
    salt_of,
)
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.heads import dropped
from zaqar_notify.storage.mongodb.indexes import BY_DUE, BY_ID
from zaqar_notify.storage.mongodb.queue_states import QueueState, QueueStates
from zaqar_notify.storage.mongodb.remembering import block_of, is_stored
from zaqar_notify.storage.mongodb.transfer_changes import LAST_PLACE, ChangeStream, Cursor
from zaqar_notify.storage.mongodb.transfer_documents import (
    add_to,
    is_place,
    is_seal,
    statements_of,
    to_key,
)
from zaqar_notify.storage.values import from_ms, to_json, to_ms

REMOVED_AT_ONCE = 500


class _Place(msgspec.Struct, frozen=True):
    """The place behind a page: in the messages of the queue, or among the notes of one of its lives."""

    of: bytes
    after: bytes

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


class MongoTransfer(Transfer):
    def __init__(
        self,
        collections: Collections,
        states: QueueStates,
        blocks: Blocks,
    ) -> None:
        self._queues = collections.queues
        self._messages = collections.messages
        self._durable = collections.durable_messages
        self._states = states
        self._blocks = blocks
        self._stream = ChangeStream(collections)

    # The store that a queue leaves

    async def begin(self, ref: QueueRef) -> str | None:
        state = await self._states.get(ref)
        if state is None or state.rules is None:
            return None
        with storage_errors():
            return str(await self._stream.begin(ref, state.id))

    async def read(self, ref: QueueRef, *, after: str | None, limit: int) -> CopiedPage:
        state = await self._states.get(ref)
        if state is None or state.rules is None:
            return CopiedPage(Part(), None)
        at = _Place(state.id, b"")
        if after is not None:
            at = msgspec.json.decode(after, type=_Place)
        with storage_errors():
            found, is_end = await self._page(state, at, limit)
            part = await self._part(ref, state, found)
            if not is_end:
                return CopiedPage(part, str(_Place(at.of, found[-1]["_id"])))
            following = await self._following(ref, state, at.of)
        return CopiedPage(part, None if following is None else str(_Place(following, b"")))

    async def _page(self, state: QueueState, at: _Place, limit: int) -> tuple[list[Document], bool]:
        """Documents in order, and whether they were the last ones; later ones are changes."""
        wanted: Document = {"queue": at.of, "_id": {"$gt": at.after}}
        hint = BY_ID
        if at.of == state.id:
            # By the places of messages: notes, seals and fences are among them.
            behind = at.after or place(state.id, 0)
            wanted["_id"] = {"$gt": behind, "$lte": place(state.id, LAST_PLACE)}
        else:
            wanted["due"] = None
            hint = BY_DUE
        found = self._durable.find(
            wanted, sort=[("_id", 1)], limit=limit, batch_size=limit, hint=hint
        )
        some: list[Document] = []
        size = 0
        async with found:
            async for stored in found:
                some.append(stored)
                size += len(stored.get("body", b""))
                if size >= TRANSFERRED_BYTES:
                    return some, False
        return some, len(some) < limit

    async def _following(self, ref: QueueRef, state: QueueState, of: bytes) -> bytes | None:
        """The `queue` of the documents to be read behind those of another one: after the messages come keys and
        ends of lives, then the notes in each former life."""
        ended = self._messages.find(
            {"queue": key_shard(ref), "due": None, "former": {"$ne": None}},
            {"former": 1},
            hint=BY_DUE,
        )
        lives = sorted({one["former"] async for one in ended} - {state.id})
        order = [state.id, key_shard(ref), *lives]
        behind = order.index(of) + 1 if of in order else len(order)
        return order[behind] if behind < len(order) else None

    async def _part(self, ref: QueueRef, state: QueueState, found: Sequence[Document]) -> Part:
        part = Part()
        remembered = []
        for stored in found:
            add_to(part, stored, state.id)
            if "fingerprint" in stored:
                remembered.append(stored)
        blocks = {one["_id"]: block_of(one) for one in remembered if not is_stored(one)}
        ends = await self._blocks.ends(list(blocks.values()))
        part.keys = [
            to_key(one)
            for one in remembered
            if is_stored(one) or ends.get(blocks[one["_id"]]) is BlockState.SEALED
        ]
        return part

    async def changes(self, ref: QueueRef, cursor: str, *, limit: int) -> Changes:
        since = Cursor.of(cursor)
        with storage_errors():
            changed, behind, is_all = await self._stream.since(ref, since, limit=limit)
            state = await self._states.get(ref)
            if state is None or state.rules is None or state.id != since.queue:
                raise ChangesLost
            found = await self._durable.find(
                {"queue": {"$in": [state.id, key_shard(ref)]}, "_id": {"$in": list(changed)}},
                hint=BY_ID,
            ).to_list()
            part = await self._part(ref, state, found)
        there = {one["_id"] for one in found if "due" in one or is_seal(one)}
        part.gone = [position_at(at) for at in changed if is_place(at) and at not in there]
        return Changes(part, str(behind), is_all)

    async def end(self, ref: QueueRef) -> None:
        """A change stream ends with its reader."""

    async def head(self, ref: QueueRef) -> StoredHead | None:
        await self._states.until_posted(ref)
        state = await self._states.get(ref)
        if state is None:
            return None
        until = state.subscribed_until
        return StoredHead(
            state.id.hex(),
            salt_of(state.id) if state.rules is not None else b"",
            state.end,
            state.rules,
            state.revision,
            None if until is None else to_ms(until),
            state.subscribers_turn,
        )

    async def drop(self, ref: QueueRef, life: str) -> None:
        queue = bytes.fromhex(life)
        here = {"_id": queue_key(ref), "queue": queue}
        gone = {"_id": queue_key(ref), "dropped": queue, "rules": None}
        with storage_errors():
            await self._queues.update_one(here, dropped({}), hint=BY_ID)
            if await self._queues.find_one(gone, {"_id": 1}, hint=BY_ID) is None:
                return
            # At once: another process may remember the id of this stay, and the queue may come back.
            await self._remove_all({"queue": queue, "due": {"$lte": FREE}})
            await self._remove_all({"queue": queue, "due": None, "cancelled": True})
            await self._remove_all({"queue": key_shard(ref), "due": None})

    async def _remove_all(self, wanted: Document) -> None:
        while True:
            found = await self._messages.find(
                wanted, {"_id": 1}, limit=REMOVED_AT_ONCE, batch_size=REMOVED_AT_ONCE, hint=BY_DUE
            ).to_list()
            if found:
                gone = {"queue": wanted["queue"], "_id": {"$in": [one["_id"] for one in found]}}
                await rerun(partial(self._messages.delete_many, gone, hint=BY_ID))
            if len(found) < REMOVED_AT_ONCE:
                return

    # The store that it comes to

    async def prepare(self, move: str, ref: QueueRef, salt: bytes) -> None:
        key = _stand_in(move, ref)
        with storage_errors():
            stored = await self._queues.find_one({"_id": key}, {"queue": 1}, hint=BY_ID)
            if stored is not None and salt_of(stored["queue"]) != salt:
                await self.discard(move, ref)
            if await self._has_come(move, ref):
                return
            queue = salt + secrets.token_bytes(QUEUE_ID_BYTES - SALT_BYTES)
            await self._queues.update_one(
                {"_id": key}, {"$setOnInsert": {"queue": queue}}, upsert=True, hint=BY_ID
            )
            # Only the move that is awaited is activated: see `activate`.
            await self._queues.update_one(
                {"_id": queue_key(ref)},
                {"$set": {"awaits": move}, "$setOnInsert": {"queue": new_queue_id()}},
                upsert=True,
                hint=BY_ID,
            )

    async def write(self, move: str, ref: QueueRef, part: Part) -> None:
        with storage_errors():
            queue = await self._arriving(move, ref)
            if queue is None:
                return
            for statements in statements_of(ref, queue, part):
                if statements:
                    await rerun(partial(self._messages.bulk_write, statements, ordered=False))

    async def _arriving(self, move: str, ref: QueueRef) -> bytes | None:
        """The id of the queue that is about to come; None: it has come by this move.

        Raises:
            ChangesLost: It was discarded.
        """
        stand_in = {"_id": _stand_in(move, ref)}
        stored = await self._queues.find_one(stand_in, {"queue": 1}, hint=BY_ID)
        if stored is not None:
            queue: bytes = stored["queue"]
            return queue
        if await self._has_come(move, ref):
            return None
        raise ChangesLost

    async def _has_come(self, move: str, ref: QueueRef) -> bool:
        came = {"_id": queue_key(ref), "came_by": move, **HAS_HEAD}
        return await self._queues.find_one(came, {"_id": 1}, hint=BY_ID) is not None

    async def activate(self, move: str, ref: QueueRef, head: StoredHead) -> None:
        with storage_errors():
            queue = await self._arriving(move, ref)
            if queue is None:
                return
            # A process that slept before this finds that another move is awaited, or none.
            awaited = {"_id": queue_key(ref), "awaits": move}
            activated = await self._queues.update_one(
                awaited, _activated(head, queue, move), hint=BY_ID
            )
            if not activated.matched_count and not await self._has_come(move, ref):
                raise ChangesLost
            stand_in = {"_id": _stand_in(move, ref), "queue": queue}
            await self._queues.delete_one(stand_in, hint=BY_ID)
            await self._states.get(ref)

    async def discard(self, move: str, ref: QueueRef) -> None:
        key = _stand_in(move, ref)
        with storage_errors():
            stored = await self._queues.find_one({"_id": key}, {"queue": 1}, hint=BY_ID)
            if stored is None:
                return
            queue = stored["queue"]
            present = await self._states.get(ref)
            await self._remove_all({"queue": queue, "due": {"$lte": FREE}})
            await self._remove_all({"queue": queue, "due": None})
            if present is None or present.rules is None:
                await self._remove_all({"queue": key_shard(ref), "due": None})
            await self._queues.update_one(
                {"_id": queue_key(ref), "awaits": move},
                [{"$set": {"awaits": "$$REMOVE", "unused_since": _UNUSED}}],
                hint=BY_ID,
            )
            await self._queues.delete_one({"_id": key, "queue": queue}, hint=BY_ID)


_UNUSED: Document = {"$cond": [{"$eq": [{"$ifNull": ["$rules", None]}, None]}, "$$NOW", "$$REMOVE"]}


def _stand_in(move: str, ref: QueueRef) -> str:
    return queue_key(internal_ref(arriving(move, ref)))


def _activated(head: StoredHead, queue: bytes, move: str) -> list[Document]:
    """The update that lets the queue be here, under this id. What is here under another one is dropped."""
    former: Document = {"$concatArrays": [{"$ifNull": ["$dropped", []]}, ["$queue"]]}
    until = None if head.subscribed_until is None else from_ms(head.subscribed_until)
    return [
        {
            "$set": {
                # Which the sweep empties.
                "dropped": {
                    "$cond": [{"$eq": [{"$type": "$queue"}, "binData"]}, former, "$$REMOVE"]
                },
                "queue": {"$literal": queue},
                "came_by": {"$literal": move},
                "awaits": "$$REMOVE",
                "rules": None if head.rules is None else {"$literal": to_json(head.rules)},
                "unused_since": "$$NOW" if head.rules is None else "$$REMOVE",
                "revision": head.revision,
                "next": {"$max": ["$next", Int64(head.next)]},
                "in_flight": {"$literal": {}},
                "subscribed_until": until,
                "subscribers_turn": Int64(head.turn),
            }
        }
    ]
