"""Queues' documents: read in batches, and how far a queue can be read without missing a message.

A reader stops before the first open block of the queue (`blocks`), and fences blocks past their deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import JsonObject, QueueRef
from zaqar_notify.storage.batching import Batcher, BatchItem, all_of
from zaqar_notify.storage.mongodb.blocks import Block, Blocks, BlockState, blocks_of
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import queue_key, to_rules
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID

READ_TOGETHER = 1000
LOOK_SECONDS = 0.003
"""Between looks at a post that is under way; it takes milliseconds."""
SLOT_LIFE = timedelta(minutes=2)
"""Readers clear the slot of a sealed block so long after its deadline. Until then its writer may post again,
which clears it for nothing."""
REMEMBERED_SEALS = 10_000
REMEMBERED_QUEUES = 10_000

_FIELDS = {
    "queue": 1,
    "rules": 1,
    "revision": 1,
    "subscribers_turn": 1,
    "next": 1,
    "in_flight": 1,
    "subscribed_until": 1,
    "turns": 1,
    "now": "$$NOW",
}


class QueueState(msgspec.Struct, frozen=True):
    """A queue's document at one instant; `rules` is None when the queue has no head.

    Every message before the position `readable_to` is stored already, or never will be. With `hides_some`,
    acknowledged messages may lie behind it: a reader that comes so far must look again, until it can read
    to `end`. No block behind `end` was reserved yet.
    """

    ref: QueueRef
    id: bytes
    rules: JsonObject | None
    readable_to: int
    end: int
    hides_some: bool
    subscribed_until: datetime | None
    turns: int
    revision: int
    subscribers_turn: int

    def has_subscription(self, now: datetime) -> bool:
        return self.subscribed_until is not None and self.subscribed_until > now


class QueueStates:
    """Reads of queues' documents. Every answer was read after it was asked for."""

    def __init__(self, collections: Collections, blocks: Blocks) -> None:
        self._queues = collections.durable_queues
        self._blocks = blocks
        self._reads: Batcher[QueueRef, QueueState | None] = Batcher(
            self._read_batch, most=READ_TOGETHER
        )
        self._sealed: dict[tuple[str, str], int] = {}
        self._ids: dict[QueueRef, bytes] = {}
        self.on_read: Callable[[QueueRef, QueueState | None], None] = lambda _ref, _state: None
        """Called with each state that was read."""

    async def get(self, ref: QueueRef) -> QueueState | None:
        """The queue's document, or None when no process ever wrote to the queue."""
        return await self._reads.call(ref)

    async def get_many(self, refs: Iterable[QueueRef]) -> list[QueueState | None]:
        return await all_of([self.get(ref) for ref in refs])

    async def until_posted(self, ref: QueueRef) -> None:
        """Wait until every post that is under way is stored or refused."""
        state = await self.get(ref)
        end = 0 if state is None else state.end
        while state is not None and state.readable_to < end:
            await asyncio.sleep(LOOK_SECONDS)
            state = await self.get(ref)

    def remembered(self, ref: QueueRef) -> QueueState | None:
        """An internal queue as it was when it was last read: only its id can change, when it is made anew."""
        known = self._ids.get(ref)
        return None if known is None else state_of(ref, {"queue": known, "rules": "{}"})

    async def remembered_id(self, ref: QueueRef) -> bytes | None:
        """The queue's id when it was last read, for commands that do no harm when it has changed."""
        known = self._ids.get(ref)
        if known is not None:
            return known
        state = await self.get(ref)
        return None if state is None else state.id

    async def close(self) -> None:
        await self._reads.close()

    def sealed(self, block: Block) -> None:
        """Remember that the block is sealed, and ask the store no more."""
        if len(self._sealed) >= REMEMBERED_SEALS:
            self._sealed.clear()
        self._sealed[block.key, block.writer] = block.first

    async def _read_batch(self, batch: Sequence[BatchItem[QueueRef, QueueState | None]]) -> None:
        refs = {queue_key(item.request): item.request for item in batch}
        with storage_errors():
            found = await self._queues.find(
                # The limit saves asking whether there are more.
                {"_id": {"$in": list(refs)}},
                _FIELDS,
                limit=len(refs),
                hint=BY_ID,
            ).to_list()
            open_blocks = await self._open_blocks(found)
        states: dict[QueueRef, QueueState] = {}
        for stored in found:
            ref = refs[stored["_id"]]
            states[ref] = state_of(
                ref, stored, [block for block in open_blocks if block.key == stored["_id"]]
            )
        if len(self._ids) > REMEMBERED_QUEUES:
            self._ids.clear()
        for ref in refs.values():
            state = states.get(ref)
            self.on_read(ref, state)
            if state is None:
                self._ids.pop(ref, None)
            else:
                self._ids[ref] = state.id
        for item in batch:
            item.resolve(states.get(item.request))

    async def _open_blocks(self, found: Sequence[Document]) -> list[Block]:
        """The open blocks of these documents, after those past their deadline were fenced."""
        read_at = {block: stored["now"] for stored in found for block in blocks_of(stored)}
        doubtful = [block for block in read_at if not self._knows_sealed(block)]
        ends = await self._blocks.ends(doubtful)
        # A fenced block as well: the process that fenced it may have ended before it removed messages.
        late = [
            block
            for block in doubtful
            if ends.get(block) is not BlockState.SEALED and block.deadline <= read_at[block]
        ]
        ends |= zip(late, await all_of([self._fence(block) for block in late]), strict=True)
        for block, state in ends.items():
            if state is BlockState.SEALED:
                self.sealed(block)
        open_blocks = [
            block for block in doubtful if ends.get(block, BlockState.OPEN) is BlockState.OPEN
        ]
        fenced = {block for block, state in ends.items() if state is BlockState.FENCED}
        sealed = read_at.keys() - fenced - set(open_blocks)
        await self._blocks.clear_slots(
            [block for block in fenced if block.deadline <= read_at[block]]
            + [block for block in sealed if block.deadline + SLOT_LIFE <= read_at[block]]
        )
        return open_blocks

    def _knows_sealed(self, block: Block) -> bool:
        # A writer overwrites its slot only after it has sealed the block.
        return self._sealed.get((block.key, block.writer), 0) >= block.first

    async def _fence(self, block: Block) -> BlockState:
        """Fence a block, if the store can."""
        try:
            return await self._blocks.fence(block)
        except StorageUnavailable:
            return BlockState.OPEN


def state_of(ref: QueueRef, stored: Document, open_blocks: Sequence[Block] = ()) -> QueueState:
    """A state of a queue's document. A writer needs no open blocks, since it reads no messages."""
    end = stored.get("next", 0)
    return QueueState(
        ref,
        stored["queue"],
        to_rules(stored),
        min((block.after for block in open_blocks), default=end),
        end,
        _is_gap_behind(open_blocks, end),
        stored.get("subscribed_until"),
        stored.get("turns", 0),
        stored.get("revision", 0),
        stored.get("subscribers_turn", 0),
    )


def _is_gap_behind(open_blocks: Sequence[Block], end: int) -> bool:
    """Whether anything but open blocks lies between the first of them and the end of the queue."""
    in_order = sorted(open_blocks, key=lambda block: block.first)
    starts = [block.after for block in in_order[1:]]
    return any(
        block.last + 1 != start
        for block, start in zip(in_order, [*starts, end], strict=bool(in_order))
    )
