"""Reservations: each takes the next block of positions on a queue's document, durably.

A reservation is acknowledged when a majority has it in its journal, so no fail-over undoes it, and no two
writers ever have the same position. It returns the queue's document as it is at that instant or later.
"""

from __future__ import annotations

import secrets

import msgspec
from bson import Int64
from pymongo import ReturnDocument, UpdateOne

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.batching import all_of
from zaqar_notify.storage.mongodb.blocks import Block, blocks_of
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    SERVER_POSITION,
    new_queue_id,
    new_rules,
    queue_key,
)
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.mongodb.queue_states import QueueState, state_of

MANY_QUEUES = 4
"""From so many on, one command reserves on all queues of a batch, and one read follows it."""
BLOCK_POSITIONS = 1 << 16
"""Positions are plentiful: a post need not say beforehand how many it takes."""
DEADLINE_MS = 5_000
"""After which other processes fence a block that has no seal."""


class Reservation(msgspec.Struct, frozen=True):
    """A block, and the queue's state when it was reserved."""

    state: QueueState
    block: Block


class Reserving:
    """The reservations of one process, which has one slot on each queue's document under its name."""

    def __init__(self, collections: Collections) -> None:
        self._queues = collections.queues
        self.take_new_name()

    def take_new_name(self) -> None:
        """Leave the present slots as they are, until other processes have seen how their blocks end."""
        self.writer = f"w{secrets.token_hex(6)}"

    async def reserve(self, needs: dict[QueueRef, int]) -> dict[QueueRef, Reservation]:
        """A block on each queue, with room for so many messages at least."""
        if len(needs) < MANY_QUEUES:
            stored = await all_of([self._reserve(ref, needs[ref]) for ref in needs])
        else:
            stored = await self._reserve_many(needs)
        return {
            ref: Reservation(state_of(ref, one), self._own_block(one))
            for ref, one in zip(needs, stored, strict=True)
        }

    async def _reserve(self, ref: QueueRef, positions: int) -> Document:
        stored: Document | None = await self._queues.find_one_and_update(
            {"_id": queue_key(ref)},
            _update(ref, self.writer, positions),
            _fields(self.writer),
            upsert=True,
            return_document=ReturnDocument.AFTER,
            hint=BY_ID,
        )
        if stored is None:
            raise StorageUnavailable("MongoDB gave no answer to a reservation")
        return stored

    async def _reserve_many(self, needs: dict[QueueRef, int]) -> list[Document]:
        await self._queues.bulk_write(
            [
                UpdateOne(
                    {"_id": queue_key(ref)},
                    _update(ref, self.writer, positions),
                    upsert=True,
                    hint=BY_ID,
                )
                for ref, positions in needs.items()
            ],
            ordered=False,
        )
        found = await self._queues.find(
            {"_id": {"$in": [queue_key(ref) for ref in needs]}},
            _fields(self.writer),
            limit=len(needs),
            hint=BY_ID,
        ).to_list()
        reserved = {one["_id"]: one for one in found if self.writer in one.get("in_flight", {})}
        # A queue that was purged or deleted in between has lost its slot.
        return [
            reserved.get(queue_key(ref)) or await self._reserve(ref, positions)
            for ref, positions in needs.items()
        ]

    def _own_block(self, stored: Document) -> Block:
        [block] = [block for block in blocks_of(stored) if block.writer == self.writer]
        return block


def _fields(writer: str) -> Document:
    fields = ("queue", "rules", "next", "subscribed_until", "turns")
    return {**dict.fromkeys(fields, 1), f"in_flight.{writer}": 1}


def _update(ref: QueueRef, writer: str, positions: int) -> list[Document]:
    """The update that gives a writer its next block, on a document that may not exist yet."""
    size = max(BLOCK_POSITIONS, positions + 1)
    return [
        {
            "$set": {
                "queue": {"$ifNull": ["$queue", {"$literal": new_queue_id()}]},
                "rules": {"$ifNull": ["$rules", new_rules(ref)]},
                "unused_since": {
                    "$cond": [
                        {"$eq": [{"$ifNull": ["$rules", new_rules(ref)]}, None]},
                        # Anew each time: the sweep must not forget a queue that is about to be used.
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
