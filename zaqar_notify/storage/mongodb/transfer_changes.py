"""Changes of a queue that is read whole, by a change stream.

Documents of a queue's messages, and the notes in their places, have an `_id` that begins with the queue's, so
even the event of a deletion says which message is gone. Keys and notes that a life has ended have other `_id`s;
those are deleted only when they mean nothing any more, or are made anew.

A call knows that it has seen all changes before it by an event of its own: it inserts a *mark*, at a place
that no message gets.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pymongo.errors import OperationFailure

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import ChangesLost
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    key_shard,
    place,
)

HISTORY_LOST = frozenset({136, 280, 286})
"""CappedPositionLost, ChangeStreamFatalError, ChangeStreamHistoryLost: the oplog does not go back so far."""
MARK_LIFE = timedelta(minutes=10)
LAST_PLACE = (1 << 64) - 1
_AWAIT_MS = 500


class Cursor(msgspec.Struct, frozen=True):
    """A life of a queue, and the token behind the last change that is known."""

    queue: bytes
    resume_after: dict[str, Any]

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, text: str) -> Cursor:
        return msgspec.json.decode(text, type=cls)


class ChangeStream:
    def __init__(self, collections: Collections) -> None:
        self._messages = collections.messages
        self._durable = collections.durable_messages
        self._now = collections.server_now

    async def begin(self, ref: QueueRef, queue: bytes) -> Cursor:
        async with await self._durable.watch(_pipeline(ref, queue)) as stream:
            return Cursor(queue, dict(stream.resume_token or {}))

    async def since(
        self, ref: QueueRef, cursor: Cursor, *, limit: int
    ) -> tuple[Sequence[bytes], Cursor, bool]:
        """The `_id`s of documents that have changed, the cursor behind them, and whether these are all.

        Raises:
            ChangesLost: The server does not know them any more.
        """
        mark = await self._mark(cursor.queue)
        changed: dict[bytes, None] = {}
        try:
            async with await self._durable.watch(
                _pipeline(ref, cursor.queue),
                resume_after=cursor.resume_after,
                max_await_time_ms=_AWAIT_MS,
                batch_size=limit,
            ) as stream:
                async for event in stream:
                    at = bytes(event["documentKey"]["_id"])
                    if at == mark:
                        break
                    changed[at] = None
                    if len(changed) >= limit:
                        break
                token = dict(stream.resume_token or cursor.resume_after)
        except OperationFailure as error:
            if error.code in HISTORY_LOST:
                raise ChangesLost from error
            raise
        return list(changed), Cursor(cursor.queue, token), at == mark

    async def _mark(self, queue: bytes) -> bytes:
        at = queue + b"\xff" + secrets.token_bytes(7)
        now: datetime = await self._now()
        await self._messages.insert_one({"_id": at, "queue": queue, "reclaim_at": now + MARK_LIFE})
        return at


def _pipeline(ref: QueueRef, queue: bytes) -> list[Document]:
    of_places = {"$gte": place(queue, 0), "$lte": place(queue, LAST_PLACE)}
    of_queue = [{"documentKey._id": of_places}, {"fullDocument.queue": key_shard(ref)}]
    return [{"$match": {"$or": of_queue}}, {"$project": {"documentKey": 1}}]
