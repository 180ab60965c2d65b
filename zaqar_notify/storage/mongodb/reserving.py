"""Blocks for writers: reserved on the queues' documents, and looked for when in doubt.

A reservation also returns the queue's document, as it is at that instant.
"""

from __future__ import annotations

import msgspec
from bson import Int64
from pymongo import ReturnDocument, UpdateOne

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.mongodb.connection import BY_ID, Collection, Connection, Document
from zaqar_notify.storage.mongodb.documents import SERVER_POSITION, new_queue_id, queue_key
from zaqar_notify.storage.mongodb.grouping import all_of
from zaqar_notify.storage.mongodb.records import Block, Record, blocks_of, record_of

MANY_QUEUES = 4
"""From so many on, a group reserves with one command for all of its queues, and a read of what came
of it: durably, or another primary might answer the read."""
BLOCK_POSITIONS = 1 << 16
"""Positions are plentiful: no post needs to say beforehand how many it takes."""
DEADLINE_MS = 5_000
"""After which others give up waiting for a block's seal."""

_SHOWN = ("metadata", "subscribed_until")
"""Fields of a queue's document that say what becomes of a post."""


class Reservation(msgspec.Struct, frozen=True):
    """A block, and what the queue's document showed when it was given."""

    record: Record
    block: Block
    shown: Document


class Reserving:
    def __init__(self, connection: Connection) -> None:
        self._durable = connection.queues
        self._quick = connection.quick_queues

    async def reserve(
        self, needs: dict[QueueRef, int], writer: str, *, durable: bool
    ) -> dict[QueueRef, Reservation]:
        """A block on each queue, with room for so many messages at least.

        Args:
            durable: A majority has the reservation when this returns. For `MANY_QUEUES` it must be.
        """
        if len(needs) < MANY_QUEUES:
            queues = self._durable if durable else self._quick
            reserved = await all_of(
                [_reserve(queues, ref, positions, writer) for ref, positions in needs.items()]
            )
        else:
            reserved = await _reserve_many(self._durable, needs, writer)
        return {
            ref: Reservation(
                record_of(ref, stored),
                _own_block(stored, writer),
                {name: stored.get(name) for name in _SHOWN},
            )
            for ref, stored in zip(needs, reserved, strict=True)
        }

    async def holds(self, reservation: Reservation) -> bool:
        """Whether the block is the writer's own by the queue's document; durably, from now on.

        A primary that does not know of a reservation gives the block again, unless it has given
        those behind it already, or the queue is not what the lost reservation showed.
        """
        block = reservation.block
        result = await self._durable.update_one(
            {
                "_id": block.key,
                "queue": block.queue,
                "$or": [
                    {f"in_flight.{block.writer}.first": block.first},
                    {"next": {"$lte": block.first}, **reservation.shown},
                ],
            },
            {"$max": {"next": Int64(block.last + 1)}},
            hint=BY_ID,
        )
        return bool(result.matched_count)


async def _reserve(queues: Collection, ref: QueueRef, positions: int, writer: str) -> Document:
    stored: Document | None = await queues.find_one_and_update(
        {"_id": queue_key(ref)},
        _update(writer, positions),
        _fields(writer),
        upsert=True,
        return_document=ReturnDocument.AFTER,
        hint=BY_ID,
    )
    if stored is None:
        raise StorageUnavailable("MongoDB gave no answer to a reservation")
    return stored


async def _reserve_many(
    queues: Collection, needs: dict[QueueRef, int], writer: str
) -> list[Document]:
    """The same for many queues with two commands: no document is locked from one to the other,
    so what is read is of the reservation's instant or later."""
    await queues.bulk_write(
        [
            UpdateOne({"_id": queue_key(ref)}, _update(writer, positions), upsert=True, hint=BY_ID)
            for ref, positions in needs.items()
        ],
        ordered=False,
    )
    keys = {queue_key(ref): ref for ref in needs}
    found = await queues.find(
        {"_id": {"$in": list(keys)}}, _fields(writer), limit=len(keys), hint=BY_ID
    ).to_list()
    reserved = {
        keys[stored["_id"]]: stored for stored in found if writer in stored.get("in_flight", {})
    }
    for ref in needs.keys() - reserved.keys():
        # It was purged or deleted in between.
        reserved[ref] = await _reserve(queues, ref, needs[ref], writer)
    return [reserved[ref] for ref in needs]


def _own_block(stored: Document, writer: str) -> Block:
    [block] = [block for block in blocks_of(stored) if block.writer == writer]
    return block


def _fields(writer: str) -> Document:
    fields = ("queue", "metadata", "created_at", "next", "subscribed_until", "turns")
    return {**dict.fromkeys(fields, 1), f"in_flight.{writer}": 1}


def _update(writer: str, positions: int) -> list[Document]:
    """What gives a writer its next block, on a document that may not exist yet."""
    size = max(BLOCK_POSITIONS, positions + 1)
    return [
        {
            "$set": {
                "queue": {"$ifNull": ["$queue", {"$literal": new_queue_id()}]},
                "metadata": {"$ifNull": ["$metadata", None]},
                "unused_since": {
                    "$cond": [
                        {"$eq": [{"$ifNull": ["$metadata", None]}, None]},
                        # Anew each time: what is about to be written must not be forgotten.
                        "$$NOW",
                        "$$REMOVE",
                    ]
                },
                f"in_flight.{writer}": {
                    "first": {"$max": ["$next", SERVER_POSITION]},
                    "size": size,
                    "after": {"$ifNull": ["$next", Int64(0)]},
                    "deadline": {"$add": ["$$NOW", DEADLINE_MS]},
                },
            }
        },
        {"$set": {"next": {"$add": [f"$in_flight.{writer}.first", Int64(size)]}}},
    ]
