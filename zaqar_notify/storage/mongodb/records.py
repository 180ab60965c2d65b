"""Queues' documents: read in groups, and how far a queue can be read without missing anything.

A post reserves a block of positions on its queue's document, inserts its messages there, and behind
them the block's *seal*, in one ordered command. A block without a seal is *open*: messages may still
appear in it, so readers stop before the first open block. A block whose deadline has passed is
*fenced*: whoever comes by takes the places of its first message and of its seal, so that whatever
its writer does afterwards fails. Of a fence and a seal one comes first, by the unique `_id`; no
clock is trusted with that, only with how long one waits (docs/decisions/0004).

A seal names its writer. One of another writer comes from a reservation that an election undid: it
says nothing of the block.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Queue, QueueRef
from zaqar_notify.storage.mongodb.connection import BY_ID, Connection, Document
from zaqar_notify.storage.mongodb.documents import place, queue_key, to_queue
from zaqar_notify.storage.mongodb.failures import is_duplicate, rerun, storage_errors
from zaqar_notify.storage.mongodb.grouping import Call, Together, all_of

READ_TOGETHER = 1000
SEAL_LIFE = timedelta(minutes=10)
"""A seal is kept so long after its block's deadline, or longer."""
SLOT_LIFE = timedelta(minutes=2)
"""So long after its deadline a sealed block keeps its slot: its writer may have to look for it."""
FENCE_LIFE = timedelta(days=30)
"""A writer that slept longer than this is stopped by nothing."""
BROKEN_OFF = timedelta(minutes=2)
"""Until so long after its deadline, a block without a seal was certainly never sealed: then all that is
in it can go. Later it may be that its seal has been reclaimed."""
LOOK_SECONDS = 0.003
"""Between looks at a post that is under way; it takes milliseconds."""
REMEMBERED_SEALS = 10_000
REMEMBERED_QUEUES = 10_000

_FIELDS = {
    "queue": 1,
    "metadata": 1,
    "created_at": 1,
    "next": 1,
    "in_flight": 1,
    "subscribed_until": 1,
    "turns": 1,
    "now": "$$NOW",
}
_END_FIELDS = {"fence": 1, "writer": 1}


class State(enum.Enum):
    """Whether messages may still appear in a block, and if not, how it ended."""

    OPEN = enum.auto()
    SEALED = enum.auto()
    FENCED = enum.auto()


class Block(msgspec.Struct, frozen=True):
    """Positions `first` to `first + size - 1` of a queue, given to one post group; the last is the
    seal's. `after` is the position before which all earlier blocks end."""

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


class Record(msgspec.Struct, frozen=True):
    """What a queue's document said at one instant.

    `queue` is None when there is no such queue. Everything before the position `readable_to` is
    there or never will be. With `hides_some`, blocks behind it may be sealed already: a reader that
    comes so far must look again, for what was acknowledged has to be seen: until it can read to `end`,
    behind which nothing was posted yet.
    """

    ref: QueueRef
    key: str
    id: bytes
    queue: Queue | None
    readable_to: int
    end: int
    hides_some: bool
    subscribed_until: datetime | None
    turns: int

    def has_subscription(self, now: datetime) -> bool:
        return self.subscribed_until is not None and self.subscribed_until > now


class Records:
    """Reads of queues' documents. Every answer was read after it was asked for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reads: Together[QueueRef, Record | None] = Together(
            self._read_group, most=READ_TOGETHER
        )
        self._sealed: dict[tuple[str, str], int] = {}
        self._ids: dict[QueueRef, bytes] = {}
        self.writer = ""
        """The present name of this process as a writer."""
        self.on_read: Callable[[QueueRef, Record | None], None] = lambda _ref, _record: None
        """Told of each record that was read."""

    async def get(self, ref: QueueRef) -> Record | None:
        """The queue's document, or None when nobody ever wrote to the queue."""
        return await self._reads.call(ref)

    async def get_many(self, refs: Iterable[QueueRef]) -> list[Record | None]:
        return await all_of([self.get(ref) for ref in refs])

    async def until_posted(self, ref: QueueRef) -> None:
        """Wait for the posts that are under way: they may not know what the document says since."""
        record = await self.get(ref)
        end = 0 if record is None else record.end
        while record is not None and record.readable_to < end:
            await asyncio.sleep(LOOK_SECONDS)
            record = await self.get(ref)

    async def remembered_id(self, ref: QueueRef) -> bytes | None:
        """The queue's id as it was when last read, for what harms nothing when it is another now."""
        known = self._ids.get(ref)
        if known is not None:
            return known
        record = await self.get(ref)
        return None if record is None else record.id

    async def close(self) -> None:
        await self._reads.close()

    def sealed(self, block: Block) -> None:
        """Remember that the block is sealed, and ask the store no more."""
        if len(self._sealed) >= REMEMBERED_SEALS:
            self._sealed.clear()
        self._sealed[block.key, block.writer] = block.first

    async def _read_group(self, group: Sequence[Call[QueueRef, Record | None]]) -> None:
        refs = {queue_key(call.ask): call.ask for call in group}
        with storage_errors():
            found = await self._connection.durable_queues.find(
                # The limit saves asking whether there are more.
                {"_id": {"$in": list(refs)}},
                _FIELDS,
                limit=len(refs),
                hint=BY_ID,
            ).to_list()
            open_blocks = await self._open_blocks(found)
        records: dict[QueueRef, Record] = {}
        for stored in found:
            ref = refs[stored["_id"]]
            records[ref] = _record(
                ref, stored, [block for block in open_blocks if block.key == stored["_id"]]
            )
        if len(self._ids) > REMEMBERED_QUEUES:
            self._ids.clear()
        for ref in refs.values():
            record = records.get(ref)
            self.on_read(ref, record)
            if record is None:
                self._ids.pop(ref, None)
            else:
                self._ids[ref] = record.id
        for call in group:
            call.answer(records.get(call.ask))

    async def _open_blocks(self, found: Sequence[Document]) -> list[Block]:
        """The blocks of these documents that are open, after those past their deadline were fenced."""
        read_at = {block: stored["now"] for stored in found for block in blocks_of(stored)}
        states = await self._states(read_at)
        await self._clear(
            [block for block, state in states.items() if _is_over(block, state, read_at[block])]
        )
        return [block for block, state in states.items() if state is State.OPEN]

    async def _states(self, read_at: dict[Block, datetime]) -> dict[Block, State]:
        """What becomes of these blocks, which were read at these instants of the server."""
        states = {
            block: State.SEALED if self._knows_sealed(block) else State.OPEN for block in read_at
        }
        doubtful = [block for block, state in states.items() if state is State.OPEN]
        if not doubtful:
            return states
        ends = await self.find_ends(doubtful)
        # Also what is fenced: who did that may not have come to remove what was in it.
        late = [
            block
            for block in doubtful
            if ends.get(block) is not State.SEALED and block.deadline <= read_at[block]
        ]
        ends |= zip(late, await all_of([self._end(block) for block in late]), strict=True)
        for block, state in ends.items():
            if state is State.SEALED:
                self.sealed(block)
        return states | ends

    def _knows_sealed(self, block: Block) -> bool:
        return self._sealed.get((block.key, block.writer), 0) >= block.first

    async def find_ends(self, blocks: Sequence[Block]) -> dict[Block, State]:
        """Which of these blocks have ended, and how."""
        if not blocks:
            return {}
        found = self._connection.durable_messages.find(
            {
                "queue": {"$in": [block.queue for block in blocks]},
                "_id": {"$in": [block.seal_id for block in blocks]},
            },
            _END_FIELDS,
            hint=BY_ID,
        )
        seals = {stored["_id"]: stored async for stored in found}
        states = {
            block: _end_of(block, seals[block.seal_id])
            for block in blocks
            if block.seal_id in seals
        }
        return {block: state for block, state in states.items() if state is not State.OPEN}

    async def _end(self, block: Block) -> State:
        """Fence a block, if the store can."""
        try:
            return await self.fence(block, keeps_seal=BROKEN_OFF)
        except StorageUnavailable:
            return State.OPEN

    async def fence(self, block: Block, *, keeps_seal: timedelta) -> State:
        """End the block, whatever its writer does from now on, unless it has sealed it.

        Args:
            keeps_seal: For so long after its deadline its seal is there, if it ever had one.
        """
        with storage_errors():
            await self.take_places(
                [fence_at(block, block.head_id), fence_at(block, block.seal_id)], [block]
            )
            seal = await self._connection.durable_messages.find_one(
                {"queue": block.queue, "_id": block.seal_id},
                {**_END_FIELDS, "now": "$$NOW"},
                hint=BY_ID,
            )
            if seal is None:
                # What stood in the way of the fence is gone with its primary, and the fence with it.
                return State.OPEN
            if _end_of(block, seal) is State.SEALED:
                return State.SEALED
            # By the instant of this look: we may have slept since the one that showed the block.
            if seal["now"] < block.deadline + keeps_seal:
                # Its insert was broken off: nothing of it was acknowledged, and never will be.
                await rerun(
                    lambda: self._connection.messages.delete_many(
                        {
                            "queue": block.queue,
                            "_id": {"$gte": block.head_id, "$lt": block.seal_id},
                            "fence": {"$exists": False},
                            "kept": {"$exists": False},
                        },
                        hint=BY_ID,
                    )
                )
        return State.FENCED

    async def take_places(self, fences: Sequence[Document], blocks: Sequence[Block]) -> None:
        """Insert fences where nothing stands yet, and in these blocks for the seal of another writer.

        Their reservations must be certain to stand: or else the other's seal may be the genuine one.
        """
        try:
            await self._connection.messages.insert_many(fences, ordered=False)
        except BulkWriteError as error:
            if not is_duplicate(error):
                raise
            for block in blocks:
                await self._replace_seal_of_another(block)

    async def _replace_seal_of_another(self, block: Block) -> None:
        await self._connection.messages.update_one(
            {
                "queue": block.queue,
                "_id": block.seal_id,
                "writer": {"$exists": True, "$ne": block.writer},
            },
            {"$set": fence_at(block, block.seal_id), "$unset": {"writer": ""}},
            hint=BY_ID,
        )

    async def _clear(self, blocks: Sequence[Block]) -> None:
        """Remove slots that say nothing any more."""
        clears = [
            UpdateOne(
                {"_id": block.key, f"in_flight.{block.writer}.first": block.first},
                {"$unset": {f"in_flight.{block.writer}": ""}},
                hint=BY_ID,
            )
            for block in blocks
        ]
        if clears:
            await self._connection.quick_queues.bulk_write(clears, ordered=False)


def fence_at(block: Block, place_id: bytes) -> Document:
    return {
        "_id": place_id,
        "queue": block.queue,
        "fence": True,
        "reclaim_at": block.deadline + FENCE_LIFE,
    }


def _end_of(block: Block, stored: Document) -> State:
    """What the document in the place of its seal says of a block."""
    if "fence" in stored:
        return State.FENCED
    # Of another writer it comes from a reservation that was lost, seal or not.
    return State.SEALED if stored.get("writer") == block.writer else State.OPEN


def _is_over(block: Block, state: State, now: datetime) -> bool:
    """Whether nobody needs the block's slot any more."""
    kept = SLOT_LIFE if state is State.SEALED else timedelta()
    return state is not State.OPEN and block.deadline + kept <= now


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


def record_of(ref: QueueRef, stored: Document) -> Record:
    """A record for a writer, who reads nothing."""
    return _record(ref, stored, [])


def _record(ref: QueueRef, stored: Document, open_blocks: Sequence[Block]) -> Record:
    end = stored.get("next", 0)
    return Record(
        ref,
        stored["_id"],
        stored["queue"],
        to_queue(ref, stored),
        min((block.after for block in open_blocks), default=end),
        end,
        _is_gap_behind(open_blocks, end),
        stored.get("subscribed_until"),
        stored.get("turns", 0),
    )


def _is_gap_behind(open_blocks: Sequence[Block], end: int) -> bool:
    """Whether anything but open blocks lies between the first of them and the end of the queue."""
    in_order = sorted(open_blocks, key=lambda block: block.first)
    starts = [block.after for block in in_order[1:]]
    return any(
        block.last + 1 != start
        for block, start in zip(in_order, [*starts, end], strict=bool(in_order))
    )
