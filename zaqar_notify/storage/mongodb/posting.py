"""Commit batches: posts that arrive while a write is under way are written together in the next.

For a batch of posts there is one durable reservation a queue (`reserving`), and one ordered insert
(`post_batch`): remembered keys, messages, jobs in places of their own (`jobs`), and a seal for each
queue's block. A post is acknowledged when a majority has that insert (docs/decisions/0004).

After a command that failed, or was refused, the process takes a new name for its slots: a reservation or
an insert may still arrive late, so the former slots stay until other processes have fenced their blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias

from pymongo.errors import BulkWriteError, PyMongoError

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Posted, QueueRef
from zaqar_notify.storage.base import HeadMissing, IdempotencyKey, Post
from zaqar_notify.storage.batch_delay import BatchDelay
from zaqar_notify.storage.batching import Batcher, BatchItem
from zaqar_notify.storage.mongodb.blocks import REMOVABLE, Blocks
from zaqar_notify.storage.mongodb.connection import Collections, Document, Insertable
from zaqar_notify.storage.mongodb.documents import id_of
from zaqar_notify.storage.mongodb.failures import is_duplicate, is_refused, rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_ID, BY_MOVED_ID
from zaqar_notify.storage.mongodb.jobs import JobPlaces
from zaqar_notify.storage.mongodb.post_batch import Asked, Part, PostBatch
from zaqar_notify.storage.mongodb.queue_states import QueueStates
from zaqar_notify.storage.mongodb.remembering import Remembered, RememberedPosts, Remembering
from zaqar_notify.storage.mongodb.reserving import Reserving
from zaqar_notify.storage.mongodb.watches import MongoWatches
from zaqar_notify.storage.sealing import Sealing

POSTS_TOGETHER = 128
TRIES = 4

PostItem: TypeAlias = BatchItem[Asked, Posted]


class Posting:
    """The writes that append to queues."""

    def __init__(
        self,
        collections: Collections,
        blocks: Blocks,
        states: QueueStates,
        watches: MongoWatches,
        batch_delay: BatchDelay,
        sealing: Sealing,
    ) -> None:
        self._sealing = sealing
        self._collections = collections
        self._blocks = blocks
        self._states = states
        self._watches = watches
        self._reserving = Reserving(collections)
        self._keys = Remembering(collections, blocks, states)
        self._job_places = JobPlaces(collections, watches)
        self._posts: Batcher[Asked, Posted] = Batcher(
            self._write, most=POSTS_TOGETHER, batch_delay=batch_delay
        )
        self._deciding: set[asyncio.Task[None]] = set()

    async def post(self, ref: QueueRef, post: Post, now: datetime) -> Posted:
        return await self._posts.call(Asked(ref, now, self._sealing.sealed(ref, post)))

    async def move(
        self, ref: QueueRef, moved: Sequence[Document], *, ttl: int | None, now: datetime
    ) -> None:
        """Append messages of another queue, unless they are here already."""
        await self._posts.call(Asked(ref, now, moved=moved, moved_ttl=ttl))

    async def close(self) -> None:
        await self._posts.close()
        while self._deciding:
            await asyncio.wait(self._deciding)
        await self._job_places.close()

    async def _write(self, items: Sequence[PostItem]) -> None:
        for _ in range(TRIES):
            if not items:
                return
            with storage_errors():
                items = await self._write_once(items)
        await self._write_each(
            items, StorageUnavailable("Others took the places of this write, time and again")
        )

    async def _write_once(self, items: Sequence[PostItem]) -> Sequence[PostItem]:
        """Write the batch, and return the items to be tried again: another process fenced one of its
        blocks, or came first with a key."""
        asked = [item.request for item in items]
        remembered, batch = await self._reserve(asked)
        moved_before = await self._moved_before(asked, batch)
        for item in items:
            try:
                self._add(batch, item, remembered, moved_before)
            except Exception as error:  # A fault of one post is its caller's, not the batch's.
                item.fail(error)
        await self._job_places.place(batch)
        refusal = await self._insert(batch)
        if refusal is None:
            self._acknowledge(batch)
            return []
        # A part with its seal is complete: other processes may have believed it, and rely on it.
        sealed, refused = batch.divided(_inserted(batch, refusal))
        self._acknowledge(sealed)
        await self._take_back(refused)
        if is_duplicate(refusal):
            return [item for item, _ in refused.answers if not item.is_done]
        await self._write_each([item for item, _ in refused.answers], refusal)
        return []

    async def _write_each(self, items: Sequence[PostItem], error: Exception) -> None:
        """The store refused a batch: let each of its posts be refused or not by itself."""
        if len(items) == 1:
            raise error
        for item in items:
            try:
                await self._write([item])
            except StorageUnavailable as unavailable:
                item.fail(unavailable)

    # The documents of the batch

    def _add(
        self,
        batch: PostBatch,
        item: PostItem,
        remembered: RememberedPosts,
        moved_before: set[str],
    ) -> None:
        asked = item.request
        part = batch.parts[asked.ref]
        if asked.post is None:
            if part.state.rules is None:
                raise HeadMissing(asked.ref)
            moved = [stored for stored in asked.moved if id_of(stored) not in moved_before]
            if self._fits(item, part, len(moved)):
                moved_before.update(id_of(stored) for stored in moved)
                part.add_moved(item, moved)
            return
        key = asked.key
        before = None if key is None else remembered.get((asked.ref, key.key))
        if key is not None and before is not None:
            self._repeat(part, item, key, before)
            return
        messages = asked.post.messages_for(part.state.rules or {})
        if part.state.rules is None:
            raise HeadMissing(asked.ref)
        if self._fits(item, part, len(messages)):
            part.add_post(item, asked.post, messages, remembered)

    def _fits(self, item: PostItem, part: Part, count: int) -> bool:
        """Whether the part has room. If not, the post is put off to a batch with a larger block."""
        if count <= part.room:
            return True
        item.request.positions = count
        self._posts.put(item)
        return False

    def _repeat(self, part: Part, item: PostItem, key: IdempotencyKey, before: Remembered) -> None:
        """Answer as the first post was answered, once that is certain to be stored."""
        if before.is_sealed:
            part.answers.append((item, before.answer(key)))
            return
        task = asyncio.get_running_loop().create_task(self._put_off(item, key, before))
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    async def _put_off(self, item: PostItem, key: IdempotencyKey, before: Remembered) -> None:
        """Wait until another process has stored the post, or can't any more; then try again."""
        try:
            with storage_errors():
                await self._keys.decide(item.request.ref, key, before)
        except StorageUnavailable as error:
            item.fail(error)
            return
        self._posts.put(item)

    # The steps that ask the store

    async def _reserve(self, asked: Sequence[Asked]) -> tuple[RememberedPosts, PostBatch]:
        keys = [(one.ref, one.key, one.now) for one in asked if one.key is not None]
        reserving = self._reserving.reserve(_needs(asked))
        remembered: RememberedPosts = {}
        try:
            if keys:
                remembered, reserved = await asyncio.gather(self._keys.find(keys), reserving)
            else:
                reserved = await reserving
        except BaseException:
            # The reservation may yet be made, over the slot of the next one.
            self._reserving.take_new_name()
            raise
        return remembered, PostBatch({ref: Part(one) for ref, one in reserved.items()})

    async def _moved_before(self, asked: Sequence[Asked], batch: PostBatch) -> set[str]:
        """The ids of messages that a move which was broken off brought here already."""
        moves = [one for one in asked if one.moved]
        if not moves:
            return set()
        queues = [batch.parts[one.ref].block.queue for one in moves]
        ids = [id_of(stored) for one in moves for stored in one.moved]
        wanted = {"queue": {"$in": queues}, "moved_id": {"$in": ids}}
        messages = self._collections.messages
        # Once marked they stay, even when the block of that move is fenced.
        marked = await rerun(
            lambda: messages.update_many(wanted, {"$set": {"kept": True}}, hint=BY_MOVED_ID)
        )
        if not marked.matched_count:
            return set()
        found = messages.find({**wanted, "kept": True}, {"moved_id": 1}, hint=BY_MOVED_ID)
        return {stored["moved_id"] async for stored in found}

    async def _insert(self, batch: PostBatch) -> PyMongoError | None:
        """Insert the batch; the error that says which part of it was refused, if it was.

        Raises:
            PyMongoError: Whether it happened is unknown, and may yet be decided.
        """
        try:
            await self._collections.messages.insert_many(batch.documents())
        except Exception as error:
            self._reserving.take_new_name()
            if isinstance(error, PyMongoError) and is_refused(error):
                return error
            raise
        return None

    async def _take_back(self, batch: PostBatch) -> None:
        """Remove the documents of refused parts, and end their blocks."""
        await self._remove(batch.messages_and_jobs())
        for key in batch.keys:
            await self._keys.remove(key)
        # A process that has read one of these keys must not wait for the seal.
        await self._blocks.put_fences([part.fence() for part in batch.parts.values()])

    async def _remove(self, documents: Sequence[Insertable]) -> None:
        """Remove messages of this process. Their places were never given to another post."""
        if documents:
            wanted = {
                "queue": {"$in": list({stored["queue"] for stored in documents})},
                "_id": {"$in": [stored["_id"] for stored in documents]},
                **REMOVABLE,
            }
            await rerun(lambda: self._collections.messages.delete_many(wanted, hint=BY_ID))

    # When it is done

    def _acknowledge(self, batch: PostBatch) -> None:
        """Answer the items, and wake watches."""
        for part in batch.parts.values():
            self._states.sealed(part.block)
        for item, posted in batch.answers:
            item.resolve(posted)
        for part in batch.parts.values():
            ref, messages = part.state.ref, part.messages
            self._watches.posted(ref, part.block, messages.visible)
            if messages.delayed_to:
                self._watches.held(ref, min(messages.delayed_to))
        self._job_places.stored(batch)


def _needs(asked: Iterable[Asked]) -> dict[QueueRef, int]:
    """For each queue how many positions the batch asks for by name."""
    needs: dict[QueueRef, int] = {}
    for one in asked:
        needs[one.ref] = needs.get(one.ref, 0) + one.positions
    return needs


def _inserted(batch: PostBatch, error: PyMongoError) -> int:
    """How many documents were inserted of a batch that was refused, at most."""
    if isinstance(error, BulkWriteError):
        return int(error.details["nInserted"])
    # The library refused the command. It may have sent messages and jobs by then, but no seal.
    return len(batch.keys) + len(batch.messages_and_jobs())
