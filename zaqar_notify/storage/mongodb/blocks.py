"""Blocks of positions, and how each ends: with a seal or with a fence (docs/decisions/0004).

A post batch reserves a block on its queue's document, inserts its messages there and, behind them in the
same ordered command, the block's *seal*. A block without a seal is *open*: messages may still appear in
it. Past a block's deadline any process may *fence* it, by inserting documents at the places of its first
message and of its seal. Seal and fence have the same `_id`, so only one of them can ever be stored.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import place
from zaqar_notify.storage.mongodb.failures import is_duplicate, rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID

SEAL_LIFE = timedelta(minutes=10)
"""The server removes a seal so long after its block's deadline, or later."""
FENCE_LIFE = timedelta(days=30)
"""The server removes a fence so long after its block's deadline. A writer that slept longer could insert."""
SEAL_IS_THERE = timedelta(minutes=2)
"""Until so long after the deadline, a sealed block has its seal for certain. Later, the lack of a seal
proves nothing: the server may have removed it."""

REMOVABLE: Document = {"fence": {"$exists": False}, "kept": {"$exists": False}}
"""The condition on documents that may be removed from a block without a seal: no fence, and no message
from another queue that a later move relies on."""


class BlockState(enum.Enum):
    """Whether messages may still appear in a block, and if not, how it ended."""

    OPEN = enum.auto()
    SEALED = enum.auto()
    FENCED = enum.auto()


class Block(msgspec.Struct, frozen=True):
    """Positions `first` to `first + size - 1` of a queue, reserved for one post batch of one writer.

    The last position is the seal's. `after` is the end of all earlier blocks of the queue.
    """

    key: str
    queue: bytes
    writer: str
    first: int
    size: int
    after: int
    deadline: datetime

    @property
    def last(self) -> int:
        return self.first + self.size - 1

    @property
    def head_id(self) -> bytes:
        return place(self.queue, self.first)

    @property
    def seal_id(self) -> bytes:
        return place(self.queue, self.last)


class Blocks:
    """Looks for the ends of blocks, and ends them."""

    def __init__(self, collections: Collections) -> None:
        self._messages = collections.messages
        self._durable_messages = collections.durable_messages
        self._quick_queues = collections.quick_queues

    async def ends(self, blocks: Sequence[Block]) -> dict[Block, BlockState]:
        """The states of those blocks that are not open."""
        if not blocks:
            return {}
        found = self._durable_messages.find(
            {
                "queue": {"$in": [block.queue for block in blocks]},
                "_id": {"$in": [block.seal_id for block in blocks]},
            },
            {"fence": 1},
            hint=BY_ID,
        )
        ends = {stored["_id"]: _state_of(stored) async for stored in found}
        return {block: ends[block.seal_id] for block in blocks if block.seal_id in ends}

    async def fence(self, block: Block, *, seal_is_there: timedelta = SEAL_IS_THERE) -> BlockState:
        """End the block, unless its writer has sealed it, and remove the messages of a fenced block.

        Args:
            seal_is_there: Until so long after its deadline, the block has its seal if it ever had one.
                Later nothing is removed.
        """
        with storage_errors():
            await self.put_fences([fence_at(block, block.head_id), fence_at(block, block.seal_id)])
            stored = await self._durable_messages.find_one(
                {"queue": block.queue, "_id": block.seal_id},
                {"fence": 1, "now": "$$NOW"},
                hint=BY_ID,
            )
            if stored is None:
                # A fail-over undid the document that stood in the way of the fence.
                return BlockState.OPEN
            state = _state_of(stored)
            # By the instant of this look: the process may have slept since it saw the block.
            if state is BlockState.FENCED and stored["now"] < block.deadline + seal_is_there:
                await self._remove_messages(block)
        return state

    async def put_fences(self, fences: Sequence[Document]) -> None:
        """Insert fences wherever no document stands yet. They are durable when this returns."""
        try:
            await self._messages.insert_many(fences, ordered=False)
        except BulkWriteError as error:
            if not is_duplicate(error):
                raise

    async def clear_slots(self, blocks: Sequence[Block]) -> None:
        """Remove ended blocks from their queues' documents. A lost removal is repeated by a later reader."""
        clears = [
            UpdateOne(
                {"_id": block.key, f"in_flight.{block.writer}.first": block.first},
                {"$unset": {f"in_flight.{block.writer}": ""}},
                hint=BY_ID,
            )
            for block in blocks
        ]
        if clears:
            await self._quick_queues.bulk_write(clears, ordered=False)

    async def _remove_messages(self, block: Block) -> None:
        """Remove the messages that a broken insert left. They were never acknowledged, and never will be."""
        await rerun(
            lambda: self._messages.delete_many(
                {
                    "queue": block.queue,
                    "_id": {"$gte": block.head_id, "$lt": block.seal_id},
                    **REMOVABLE,
                },
                hint=BY_ID,
            )
        )


def fence_at(block: Block, place_id: bytes) -> Document:
    return {
        "_id": place_id,
        "queue": block.queue,
        "fence": True,
        "reclaim_at": block.deadline + FENCE_LIFE,
    }


def blocks_of(stored: Document) -> list[Block]:
    """The last block of each writer, of a queue's document."""
    slots: dict[str, Document] = stored.get("in_flight", {})
    return [
        Block(
            stored["_id"],
            stored["queue"],
            writer,
            slot["first"],
            slot["size"],
            slot["after"],
            slot["deadline"],
        )
        for writer, slot in slots.items()
    ]


def _state_of(stored: Document) -> BlockState:
    """The state of a block by the document in its seal's place."""
    return BlockState.FENCED if "fence" in stored else BlockState.SEALED
