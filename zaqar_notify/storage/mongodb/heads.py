"""Heads of queues: the part of a queue's document that posts and claims read."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

from bson import Int64
from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from zaqar_notify.models import INTERNAL_PROJECT, JsonObject, QueueRef
from zaqar_notify.storage.base import Head, Heads
from zaqar_notify.storage.mongodb.cancelling import Cancelling, leave_messages_behind
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    BEHIND_ALL,
    BEHIND_INTERNAL,
    HAS_HEAD,
    new_queue_id,
    queue_key,
    to_ref,
    to_rules,
)
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.mongodb.queue_states import QueueStates
from zaqar_notify.storage.mongodb.stats import count_all
from zaqar_notify.storage.values import to_json

LISTED_AT_ONCE = 1000


class MongoHeads(Heads):
    def __init__(self, collections: Collections, states: QueueStates) -> None:
        self._collections = collections
        self._queues = collections.queues
        self._states = states
        self._cancelling = Cancelling(collections, states)

    async def get(self, ref: QueueRef) -> Head | None:
        state = await self._states.get(ref)
        if state is None or state.rules is None:
            return None
        return Head(state.rules, state.revision, state.subscribed_until, state.subscribers_turn)

    async def put(
        self, ref: QueueRef, rules: JsonObject, *, revision: int, subscribed_until: datetime | None
    ) -> bool:
        earlier = {
            "_id": queue_key(ref),
            "$or": [{"revision": {"$lt": revision}}, {"revision": {"$exists": False}}],
        }
        with storage_errors():
            try:
                await self._queues.update_one(
                    earlier, _head(rules, revision, subscribed_until), upsert=True, hint=BY_ID
                )
            except DuplicateKeyError:
                known = await self._queues.find_one(
                    {"_id": queue_key(ref), "revision": revision}, {"rules": 1}, hint=BY_ID
                )
                return known is not None and to_rules(known) == rules
        return True

    async def revision(self, ref: QueueRef) -> int:
        state = await self._states.get(ref)
        return 0 if state is None else state.revision

    async def drop(self, ref: QueueRef, *, revision: int, now: datetime) -> None:
        gone = dropped({"revision": {"$max": ["$revision", revision]}})
        with storage_errors():
            await self._cancelling.end_life(ref, gone, now=now)
            while not await self._remember(ref, revision):
                await self._cancelling.end_life(ref, gone, now=now)

    async def _remember(self, ref: QueueRef, revision: int) -> bool:
        """Remember the revision of a queue without a head; False: another process has made the head."""
        try:
            await self._queues.update_one(
                {"_id": queue_key(ref), "rules": None},
                {
                    "$max": {"revision": revision},
                    "$setOnInsert": {"queue": new_queue_id()},
                    "$currentDate": {"unused_since": True},
                },
                upsert=True,
                hint=BY_ID,
            )
        except DuplicateKeyError:
            return False
        return True

    async def drop_internal(self, refs: Sequence[QueueRef]) -> None:
        drops = [UpdateOne({"_id": queue_key(ref), **HAS_HEAD}, dropped({})) for ref in refs]
        with storage_errors():
            await rerun(lambda: self._queues.bulk_write(drops, ordered=False))

    async def internal(self, *, after: str, limit: int) -> Sequence[str]:
        key = queue_key(QueueRef(INTERNAL_PROJECT, after))
        return [ref.name for ref in await self._between(key, BEHIND_INTERNAL, limit)]

    async def of_clients(self, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        key = BEHIND_INTERNAL if after is None else queue_key(after)
        return await self._between(key, BEHIND_ALL, limit)

    async def _between(self, key: str, end: str, limit: int) -> Sequence[QueueRef]:
        with storage_errors():
            found = await self._queues.find(
                {"_id": {"$gt": key, "$lt": end}, **HAS_HEAD},
                {"_id": 1},
                sort=[("_id", 1)],
                limit=limit,
                batch_size=limit,
                hint=BY_ID,
            ).to_list()
        return [to_ref(stored["_id"]) for stored in found]

    async def count_internal(self, *, prefix: str) -> int:
        key = queue_key(QueueRef(INTERNAL_PROJECT, prefix))
        beginning = {"$gte": key, "$lt": key[:-1] + chr(ord(key[-1]) + 1)}
        count = 0
        with storage_errors():
            queues = self._queues.find(
                {"_id": beginning, **HAS_HEAD},
                {"queue": 1},
                batch_size=LISTED_AT_ONCE,
                hint=BY_ID,
            )
            async with queues:
                while together := await queues.to_list(LISTED_AT_ONCE):
                    ids = [stored["queue"] for stored in together]
                    count += await count_all(self._collections.messages, ids)
        return count

    async def raise_subscribed(self, ref: QueueRef, until: datetime) -> bool:
        with storage_errors():
            raised = await self._queues.update_one(
                {"_id": queue_key(ref), **HAS_HEAD},
                {"$max": {"subscribed_until": until}, "$inc": {"subscribers_turn": 1}},
                hint=BY_ID,
            )
        if raised.matched_count:
            await self._states.until_posted(ref)
        return bool(raised.matched_count)

    async def lower_subscribed(self, ref: QueueRef, until: datetime | None, *, turn: int) -> bool:
        with storage_errors():
            lowered = await self._queues.update_one(
                {"_id": queue_key(ref), "subscribers_turn": turn, **HAS_HEAD},
                {"$set": {"subscribed_until": until}},
                hint=BY_ID,
            )
        return bool(lowered.matched_count)


def _head(rules: JsonObject, revision: int, until: datetime | None) -> list[Document]:
    """The update that makes a head, or brings it to a revision."""
    # Turns of one life are never those of another.
    turn = {"$ifNull": ["$subscribers_turn", Int64(secrets.randbits(62))]}
    return [
        {
            "$set": {
                "queue": {"$ifNull": ["$queue", {"$literal": new_queue_id()}]},
                "rules": {"$literal": to_json(rules)},
                "revision": revision,
                "subscribed_until": {"$max": ["$subscribed_until", until]},
                "subscribers_turn": {"$add": [turn, 1]},
                "unused_since": "$$REMOVE",
            }
        }
    ]


def dropped(more: Document) -> list[Document]:
    """The update that takes away a head, with all that is on the queue."""
    without_head = {"rules": None, "subscribed_until": None, "unused_since": "$$NOW"}
    return [{"$set": {**leave_messages_behind(), **without_head, **more}}]
