"""Messages that were deleted before their delay had ended, so that their job, when due, passes them by.

A message that is deleted by id becomes a note in its own place: one write to one document. When a queue
is purged or deleted, a note of that is stored first, under the salt of the life that is about to end; it
means nothing for as long as the queue's document names that life.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence, Set
from datetime import datetime

from pymongo import ASCENDING

from zaqar_notify.models import QueueRef
from zaqar_notify.rules.instants import MOST_AHEAD
from zaqar_notify.storage.base import CANCELLED_KEPT
from zaqar_notify.storage.ids import life_of, to_position
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    key_shard,
    new_queue_id,
    place,
    queue_key,
    salt_of,
)
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_CANCELLED, BY_DUE, BY_ID
from zaqar_notify.storage.mongodb.queue_states import QueueStates
from zaqar_notify.storage.values import MILLISECOND, from_ms, to_ms


def cancelling() -> Sequence[Document]:
    """The update that turns a message that is not due yet into a note of that, kept for as long after it is due."""
    note = {
        "_id": "$_id",
        "queue": "$queue",
        "cancelled": True,
        "reclaim_at": {"$toDate": {"$add": ["$held_until", CANCELLED_KEPT // MILLISECOND]}},
    }
    return [{"$replaceWith": note}]


def is_delayed(now: int) -> Document:
    """The condition that a message is not due yet."""
    return {"held_until": {"$gt": now}, "claim": {"$exists": False}}


def is_not_delayed(now: int) -> Document:
    return {"$or": [{"held_until": {"$lte": now}}, {"claim": {"$exists": True}}]}


def leave_messages_behind() -> Document:
    """The part of an update of a queue's document that takes all its messages away from it."""
    return {
        "dropped": {"$concatArrays": [{"$ifNull": ["$dropped", []]}, ["$queue"]]},
        "queue": {"$literal": new_queue_id()},
        "in_flight": {"$literal": {}},
    }


class Cancelling:
    def __init__(self, collections: Collections, states: QueueStates) -> None:
        self._queues = collections.queues
        self._messages = collections.messages
        self._states = states

    async def end_life(self, ref: QueueRef, update: Sequence[Document], *, now: datetime) -> None:
        """Leave all messages of the queue behind, by this update of its document."""
        key = queue_key(ref)
        while True:
            stored = await self._queues.find_one(
                {"_id": key, "rules": {"$ne": None}}, {"queue": 1}, hint=BY_ID
            )
            if stored is None:
                return
            present = {"_id": key, "queue": stored["queue"], "rules": {"$ne": None}}
            await self._note_end(ref, stored["queue"], now)
            result = await self._queues.update_one(present, update, hint=BY_ID)
            if result.matched_count:
                return

    async def find(self, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        """As `Messages.cancelled`."""
        state = await self._states.get(ref)
        present = None if state is None else state.id
        with storage_errors():
            ended = await self._ended_lives(ref, set(map(life_of, due)), present)
            lives = {life: stored["former"] for life, stored in ended.items()}
            if present is not None:
                lives[salt_of(present).hex()] = present
            noted = await self._noted(lives, due)
        return noted | {
            message_id
            for message_id, at in due.items()
            if (end := ended.get(life_of(message_id))) is not None and end["at"] < at
        }

    async def _note_end(self, ref: QueueRef, queue: bytes, now: datetime) -> None:
        """Note that this life is about to end, if anything in it may have been cancelled, or will be."""
        held, cancelled = await asyncio.gather(
            self._messages.find_one(
                {"queue": queue, "due": {"$lt": -to_ms(now)}},
                {"held_until": 1},
                hint=BY_DUE,
                sort=[("due", ASCENDING)],
            ),
            self._messages.find_one(
                {"queue": queue, "cancelled": True}, {"_id": 1}, hint=BY_CANCELLED
            ),
        )
        if held is None and cancelled is None:
            return
        # Which of the cancelled ones was to be due last is not known.
        longest = now + MOST_AHEAD if held is None or cancelled else from_ms(held["held_until"])
        note = {"former": queue, "at": now, "reclaim_at": longest + CANCELLED_KEPT}
        await self._messages.update_one(
            {"_id": end_id(ref, salt_of(queue).hex()), "queue": key_shard(ref)},
            {"$set": note},
            upsert=True,
            hint=BY_ID,
        )

    async def _ended_lives(
        self, ref: QueueRef, lives: Set[str], present: bytes | None
    ) -> dict[str, Document]:
        """Of these lives of the queue, the notes of those that have ended."""
        found = self._messages.find(
            {"_id": {"$in": [end_id(ref, life) for life in lives]}, "queue": key_shard(ref)},
            hint=BY_ID,
        )
        return {
            salt_of(stored["former"]).hex(): stored
            async for stored in found
            if stored["former"] != present
        }

    async def _noted(self, lives: Mapping[str, bytes], ids: Mapping[str, datetime]) -> Set[str]:
        """Those of the ids that were cancelled one by one."""
        places = {
            place(lives[life], position): message_id
            for message_id in ids
            if (position := to_position(message_id)) is not None
            and (life := life_of(message_id)) in lives
        }
        found = self._messages.find(
            {
                "queue": {"$in": list(lives.values())},
                "_id": {"$in": list(places)},
                "cancelled": True,
            },
            {"_id": 1},
            hint=BY_ID,
        )
        return {places[stored["_id"]] async for stored in found}


def end_id(ref: QueueRef, life: str) -> bytes:
    """The `_id` of the note that a life of the queue has ended; no idempotency key has a NUL in it."""
    return hashlib.sha256("\0".join((ref.project, ref.name, "", life)).encode()).digest()
