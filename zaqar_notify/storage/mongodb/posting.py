"""Commit groups: what is posted while a write is under way is written together in the next.

For a group of posts there is one reservation a queue, which also returns the queue's document, and
one ordered insert: remembered keys, messages, jobs in places of their own (`jobs`), and a seal for each
queue's block. Nothing is acknowledged before all of it is sealed by a majority. The reservation does
not wait for one, as a rule: the insert does so for both, unless the primary may have changed in between.

The writer of a group has a name, and under it one slot on each queue's document; the next
reservation overwrites it. After a group whose fate is unknown the process takes a new name, so that
its old slots stay until somebody fences them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from bson import Int64
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import NewMessage, Posted, QueueRef
from zaqar_notify.storage.base import IdempotencyKey, Post
from zaqar_notify.storage.gathering import Gathering
from zaqar_notify.storage.mongodb.connection import (
    BY_ID,
    BY_MOVED_ID,
    Collection,
    Connection,
    Document,
    is_duplicate,
    is_refused,
    rerun,
    storage_errors,
)
from zaqar_notify.storage.mongodb.documents import (
    SERVER_POSITION,
    from_new_message,
    id_of,
    new_queue_id,
    queue_key,
    to_id,
    to_moved,
)
from zaqar_notify.storage.mongodb.grouping import Call, Together
from zaqar_notify.storage.mongodb.jobs import JobPlaces
from zaqar_notify.storage.mongodb.records import (
    SEAL_LIFE,
    Block,
    Record,
    Records,
    blocks_of,
    fence_at,
    record_of,
)
from zaqar_notify.storage.mongodb.remembering import (
    Remembered,
    RememberedPosts,
    Remembering,
    remembered_document,
)
from zaqar_notify.storage.mongodb.waiting import Waiting

POSTS_TOGETHER = 128
MANY_QUEUES = 4
"""From so many on, a group reserves with one command for all of its queues, and a read of what came
of it: durably, or another primary might answer the read."""
SETTINGS = ("metadata", "subscribed_until")
"""Fields of a queue's document that say what becomes of a post."""
BLOCK_POSITIONS = 1 << 16
"""Positions are plentiful: no post needs to say beforehand how many it takes."""
DEADLINE_MS = 5_000
"""After which others give up waiting for a block's seal."""
TRIES = 4


class Asked(msgspec.Struct):
    """A post, or messages that move here from another queue; `positions` is what it needs at least."""

    ref: QueueRef
    now: datetime
    post: Post | None = None
    moved: Sequence[Document] = ()
    moved_ttl: int | None = None
    positions: int = 0

    @property
    def key(self) -> IdempotencyKey | None:
        return None if self.post is None else self.post.idempotency_key


class _Part:
    """One queue's part of a group: its block, and what goes into it by the queue's settings."""

    def __init__(self, record: Record, block: Block, settings: Document) -> None:
        self.record = record
        self.block = block
        self.settings = settings
        self.keys: list[Document] = []
        self.documents: list[Document] = []
        self.jobs: list[_Jobs] = []
        self.stored_jobs: dict[QueueRef, list[Document]] = {}
        self.answers: list[tuple[Call[Asked, Posted], Posted]] = []
        self.visible = 0
        self.delayed_to: list[int] = []
        self.seal_until = block.deadline + SEAL_LIFE
        self.created_at: datetime | None = None
        self._next = block.first

    @property
    def room(self) -> int:
        """How many messages still fit in."""
        return self.block.last - self._next

    def positions(self, count: int) -> list[int]:
        """The next free positions; they are taken by `add`."""
        return list(range(self._next, self._next + count))

    def add(self, documents: Sequence[Document], now: datetime) -> None:
        self._next += len(documents)
        self.documents += documents
        self.created_at = self.created_at or now
        delayed = [stored["held_until"] for stored in documents if stored["held_until"]]
        self.delayed_to += delayed
        self.visible += len(documents) - len(delayed)

    def seal(self) -> Document:
        return {
            "_id": self.block.seal_id,
            "queue": self.block.queue,
            "writer": self.block.writer,
            "reclaim_at": self.seal_until,
        }


class _Jobs(msgspec.Struct, frozen=True):
    """The jobs of one post."""

    now: datetime
    client_id: str
    jobs: Sequence[tuple[QueueRef, NewMessage]]


class _Group:
    """What one group is about to write."""

    def __init__(self, parts: dict[QueueRef, _Part]) -> None:
        self.parts = parts

    @property
    def blocks(self) -> list[Block]:
        return [part.block for part in self.parts.values()]

    @property
    def keys(self) -> list[Document]:
        return [stored for part in self.parts.values() for stored in part.keys]

    @property
    def answers(self) -> list[tuple[Call[Asked, Posted], Posted]]:
        return [answer for part in self.parts.values() for answer in part.answers]

    def stored_jobs(self) -> dict[QueueRef, list[Document]]:
        """By the queue that they are on."""
        jobs: dict[QueueRef, list[Document]] = {}
        for part in self.parts.values():
            for ref, stored in part.stored_jobs.items():
                jobs.setdefault(ref, []).extend(stored)
        return jobs

    def messages_and_jobs(self) -> list[Document]:
        messages = [stored for part in self.parts.values() for stored in part.documents]
        jobs = [stored for together in self.stored_jobs().values() for stored in together]
        return [*messages, *jobs]

    def documents(self) -> list[Document]:
        """In the order in which they are inserted.

        A block that was fenced refuses its first message, and with it all that follows: no job of a
        post that is about to be done anew is ever seen.
        """
        seals = [part.seal() for part in self.parts.values()]
        return [*self.keys, *self.messages_and_jobs(), *seals]

    def divided(self, inserted: int) -> tuple[_Group, _Group]:
        """The parts whose seals are among the first so many documents, and the others."""
        seals = inserted - len(self.keys) - len(self.messages_and_jobs())
        parts, sealed = list(self.parts.items()), max(0, seals)
        return _Group(dict(parts[:sealed])), _Group(dict(parts[sealed:]))


class Posting:
    """The writes that append to queues."""

    def __init__(
        self, connection: Connection, records: Records, waiting: Waiting, gathering: Gathering
    ) -> None:
        self._connection = connection
        self._records = records
        self._waiting = waiting
        self._keys = Remembering(connection, records)
        self._job_places = JobPlaces(connection, waiting)
        self._posts: Together[Asked, Posted] = Together(
            self._write, most=POSTS_TOGETHER, gathering=gathering
        )
        self._after: set[asyncio.Task[None]] = set()
        self._take_new_name()

    async def post(self, ref: QueueRef, post: Post, now: datetime) -> Posted:
        return await self._posts.call(Asked(ref, now, post))

    async def move(
        self, ref: QueueRef, moved: Sequence[Document], *, ttl: int | None, now: datetime
    ) -> None:
        """Append messages of another queue, unless they are here already."""
        await self._posts.call(Asked(ref, now, moved=moved, moved_ttl=ttl))

    async def close(self) -> None:
        await self._posts.close()
        while self._after:
            await asyncio.wait(self._after)
        await self._job_places.close()

    def _take_new_name(self) -> None:
        self._records.writer = f"w{secrets.token_hex(6)}"

    async def _write(self, calls: Sequence[Call[Asked, Posted]]) -> None:
        for _ in range(TRIES):
            if not calls:
                return
            with storage_errors():
                calls = await self._write_once(calls)
        raise StorageUnavailable("Others took the places of this write, time and again")

    async def _write_once(
        self, calls: Sequence[Call[Asked, Posted]]
    ) -> Sequence[Call[Asked, Posted]]:
        """Write the group, and return those to be tried again: somebody fenced one of its blocks, or
        came first with a key."""
        asked = [call.ask for call in calls]
        needs = _needs(asked)
        is_durable = (
            len(needs) >= MANY_QUEUES
            # Keys and moved messages are believed by those who find them, acknowledged or not.
            or any(one.key is not None or one.moved for one in asked)
            or self._connection.hides_primary
        )
        term = self._connection.term()
        try:
            remembered, parts = await asyncio.gather(
                self._keys.find(
                    [(one.ref, one.key, one.now) for one in asked if one.key is not None]
                ),
                self._reserve(needs, durable=is_durable),
            )
        except BaseException:
            # The reservation may yet be made, over the one that the next group makes.
            self._take_new_name()
            raise
        group = _Group(parts)
        moved_before = await self._moved_before(asked, parts)
        for call in calls:
            try:
                self._settle(group, call, remembered, moved_before)
            except Exception as error:  # A fault of one post is its caller's, not the group's.
                call.fail(error)
        await self._add_jobs(group)
        await self._create_queues(group)
        try:
            await self._connection.messages.insert_many(group.documents())
        except PyMongoError as error:
            self._take_new_name()
            if not is_refused(error):
                # Whether it happened is unknown, and may yet be decided.
                raise
            inserted = _inserted(group, error)
            # What has its seal is complete: others may have believed it, and rely on it.
            sealed, refused = group.divided(inserted)
            await self._take_back(
                refused, refused.messages_and_jobs()[: max(0, inserted - len(group.keys))]
            )
            await self._acknowledge(sealed, sure=is_durable or term.has_lasted)
            if is_duplicate(error):
                return [call for call, _ in refused.answers if not call.is_settled]
            await self._write_alone(refused, error)
            return []
        await self._acknowledge(group, sure=is_durable or term.has_lasted)
        return []

    async def _write_alone(self, group: _Group, error: PyMongoError) -> None:
        """The store refused the group: let each of its posts be refused or not by itself."""
        if len(group.answers) == 1:
            raise error
        for call, _ in group.answers:
            try:
                await self._write([call])
            except StorageUnavailable as unavailable:
                call.fail(unavailable)

    # What goes where

    def _settle(
        self,
        group: _Group,
        call: Call[Asked, Posted],
        remembered: RememberedPosts,
        moved_before: set[str],
    ) -> None:
        asked = call.ask
        part = group.parts[asked.ref]
        if asked.post is None:
            self._settle_moved(part, call, moved_before)
            return
        key = asked.key
        if key is not None:
            before = remembered.get((asked.ref, key.key))
            if before is not None:
                self._repeat(part, call, key, before)
                return
        messages = asked.post.settle(part.record.queue)
        if self._is_too_large(call, part, len(messages)):
            return
        queue = part.block.queue
        positions = part.positions(len(messages))
        ids = [to_id(queue, position) for position in positions]
        jobs: list[tuple[QueueRef, NewMessage]] = []
        if part.record.has_subscription(asked.now):
            jobs = list(asked.post.jobs(ids, messages))
        client_id = asked.post.client_id
        part.add(
            [
                from_new_message(
                    message, queue=queue, position=position, client_id=client_id, now=asked.now
                )
                for position, message in zip(positions, messages, strict=True)
            ],
            asked.now,
        )
        if key is not None:
            post = Remembered(
                key.fingerprint, positions[0], len(positions), part.block, is_sealed=True
            )
            part.keys.append(remembered_document(asked.ref, key, post, asked.now))
            part.seal_until = max(part.seal_until, post.seal_until(key))
            remembered[asked.ref, key.key] = post
        if jobs:
            part.jobs.append(_Jobs(asked.now, client_id, jobs))
        part.answers.append((call, Posted(ids, owes_deliveries=bool(jobs))))

    def _settle_moved(self, part: _Part, call: Call[Asked, Posted], moved_before: set[str]) -> None:
        asked = call.ask
        moved = [stored for stored in asked.moved if id_of(stored) not in moved_before]
        if self._is_too_large(call, part, len(moved)):
            return
        moved_before.update(id_of(stored) for stored in moved)
        positions = part.positions(len(moved))
        part.add(
            [
                to_moved(
                    stored,
                    queue=part.block.queue,
                    position=position,
                    ttl=asked.moved_ttl,
                    now=asked.now,
                )
                for position, stored in zip(positions, moved, strict=True)
            ],
            asked.now,
        )
        part.answers.append((call, Posted([], owes_deliveries=False)))

    def _repeat(
        self, part: _Part, call: Call[Asked, Posted], key: IdempotencyKey, before: Remembered
    ) -> None:
        """Answer as the first post was, once that is certain to be stored."""
        if before.is_sealed:
            part.answers.append((call, before.answer(key)))
        else:
            self._start(self._put_off(call, key, before))

    def _is_too_large(self, call: Call[Asked, Posted], part: _Part, count: int) -> bool:
        """Put the post off to a group with a larger block."""
        if count <= part.room:
            return False
        call.ask.positions = count
        self._posts.put(call)
        return True

    async def _add_jobs(self, group: _Group) -> None:
        by_queue: dict[QueueRef, list[tuple[_Part, _Jobs, NewMessage]]] = {}
        for part in group.parts.values():
            for post in part.jobs:
                for ref, job in post.jobs:
                    by_queue.setdefault(ref, []).append((part, post, job))
        for ref, jobs in by_queue.items():
            queue, first = await self._job_places.take(ref, len(jobs))
            for position, (part, post, job) in enumerate(jobs, first):
                stored = from_new_message(
                    job, queue=queue, position=position, client_id=post.client_id, now=post.now
                )
                part.stored_jobs.setdefault(ref, []).append(stored)

    # The steps that ask the store

    async def _reserve(self, needs: dict[QueueRef, int], *, durable: bool) -> dict[QueueRef, _Part]:
        """A block on each queue, with the queue's document as it is at that instant."""
        writer = self._records.writer
        queues = self._connection.queues if durable else self._connection.quick_queues
        if len(needs) < MANY_QUEUES:
            reserved = await asyncio.gather(
                *(_reserve_one(queues, ref, positions, writer) for ref, positions in needs.items())
            )
        else:
            reserved = await _reserve_many(queues, needs, writer)
        return {
            ref: _Part(
                record_of(ref, stored),
                _own_block(stored, writer),
                {name: stored.get(name) for name in SETTINGS},
            )
            for ref, stored in zip(needs, reserved, strict=True)
        }

    async def _moved_before(self, asked: Sequence[Asked], parts: dict[QueueRef, _Part]) -> set[str]:
        """The ids of messages that a move which was broken off brought here already."""
        moves = [one for one in asked if one.moved]
        if not moves:
            return set()
        # Ends what was broken off: a copy in a block that is still open may be taken away again.
        await self._records.get_many([move.ref for move in moves])
        found = self._connection.durable_messages.find(
            {
                "queue": {"$in": [parts[move.ref].block.queue for move in moves]},
                "moved_id": {"$in": [id_of(stored) for move in moves for stored in move.moved]},
            },
            {"moved_id": 1},
            hint=BY_MOVED_ID,
        )
        return {stored["moved_id"] async for stored in found}

    async def _create_queues(self, group: _Group) -> None:
        await asyncio.gather(
            *(
                self._connection.queues.update_one(
                    {"_id": part.block.key, "queue": part.block.queue, "metadata": None},
                    {
                        "$set": {"metadata": "{}", "created_at": part.created_at},
                        "$unset": {"unused_since": ""},
                    },
                )
                for part in group.parts.values()
                if part.record.queue is None and part.documents
            )
        )

    async def _make_sure(self, group: _Group) -> None:
        """Remove the group, unless its blocks are its own.

        Raises:
            StorageUnavailable: They are not, or nobody can say.
        """
        holds = False
        try:
            holds = await self._holds_blocks(group)
        finally:
            if not holds:
                # A block that is given to us again must not have our seal already.
                self._take_new_name()
        if not holds:
            await self._remove(group.messages_and_jobs())
            raise StorageUnavailable("The queue or the primary changed in the middle of the post")

    async def _holds_blocks(self, group: _Group) -> bool:
        """Whether the group's blocks are its own by the document of each queue.

        A primary that does not know of a reservation gives the block again, unless it has given
        those behind it already, or the queue is not what the lost reservation showed.
        """
        held = await asyncio.gather(*(self._holds(part) for part in group.parts.values()))
        return all(held)

    async def _holds(self, part: _Part) -> bool:
        block = part.block
        result = await self._connection.queues.update_one(
            {
                "_id": block.key,
                "queue": block.queue,
                "$or": [
                    {f"in_flight.{block.writer}.first": block.first},
                    {"next": {"$lte": block.first}, **part.settings},
                ],
            },
            {"$max": {"next": Int64(block.last + 1)}},
            hint=BY_ID,
        )
        return bool(result.matched_count)

    async def _take_back(self, group: _Group, inserted: Sequence[Document]) -> None:
        """Remove what a group wrote that can't be acknowledged, and end its blocks."""
        await self._remove(inserted)
        for stored in group.keys:
            await self._keys.remove(stored)
        blocks = group.blocks
        try:
            # A key that leads here is not to be believed.
            await self._connection.messages.insert_many(
                [fence_at(block, block.seal_id, block.deadline) for block in blocks], ordered=False
            )
        except BulkWriteError as error:
            if not is_duplicate(error):
                raise
            for block in blocks:
                await self._records.fence_seal_of_another(block, block.deadline)

    async def _remove(self, documents: Sequence[Document]) -> None:
        """Remove messages, but not what has come to their places since."""
        if not documents:
            return
        await rerun(
            lambda: self._connection.messages.delete_many(
                {
                    "queue": {"$in": list({stored["queue"] for stored in documents})},
                    "_id": {"$in": [stored["_id"] for stored in documents]},
                    "client": {"$in": list({stored["client"] for stored in documents})},
                    "posted_at": {"$in": list({stored["posted_at"] for stored in documents})},
                },
                hint=BY_ID,
            )
        )

    async def _put_off(
        self, call: Call[Asked, Posted], key: IdempotencyKey, before: Remembered
    ) -> None:
        """Wait until another process has stored the post, or can't any more; then try again."""
        try:
            with storage_errors():
                await self._keys.decide(call.ask.ref, key, before)
        except StorageUnavailable as error:
            call.fail(error)
            return
        self._posts.put(call)

    # When it is done

    async def _acknowledge(self, group: _Group, *, sure: bool) -> None:
        """Answer what is sealed, once its blocks are certain to be its own."""
        if not sure:
            await self._make_sure(group)
        self._written(group)

    def _written(self, group: _Group) -> None:
        for part in group.parts.values():
            self._records.sealed(part.block)
        for call, posted in group.answers:
            call.answer(posted)
        for part in group.parts.values():
            self._waiting.posted(part.record.ref, part.block, part.visible)
            if part.delayed_to:
                self._waiting.held(part.record.ref, min(part.delayed_to))
        for ref, jobs in group.stored_jobs().items():
            delayed_to = [job["held_until"] for job in jobs if job["held_until"]]
            self._job_places.stored(ref, len(jobs) - len(delayed_to))
            if delayed_to:
                self._waiting.held(ref, min(delayed_to))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._after.add(task)
        task.add_done_callback(self._after.discard)


def _needs(asked: Iterable[Asked]) -> dict[QueueRef, int]:
    """For each queue how many positions the group asks for by name."""
    needs: dict[QueueRef, int] = {}
    for one in asked:
        needs[one.ref] = needs.get(one.ref, 0) + one.positions
    return needs


async def _reserve_one(queues: Collection, ref: QueueRef, positions: int, writer: str) -> Document:
    stored: Document | None = await queues.find_one_and_update(
        {"_id": queue_key(ref)},
        _reservation(writer, positions),
        _reserved_fields(writer),
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
            UpdateOne(
                {"_id": queue_key(ref)},
                _reservation(writer, positions),
                upsert=True,
                hint=BY_ID,
            )
            for ref, positions in needs.items()
        ],
        ordered=False,
    )
    keys = {queue_key(ref): ref for ref in needs}
    found = await queues.find(
        {"_id": {"$in": list(keys)}},
        _reserved_fields(writer),
        limit=len(keys),
        hint=BY_ID,
    ).to_list()
    reserved = {
        keys[stored["_id"]]: stored for stored in found if writer in stored.get("in_flight", {})
    }
    for ref in needs.keys() - reserved.keys():
        # It was purged or deleted in between.
        reserved[ref] = await _reserve_one(queues, ref, needs[ref], writer)
    return [reserved[ref] for ref in needs]


def _inserted(group: _Group, error: PyMongoError) -> int:
    """How many documents were inserted of a group that was refused, at most."""
    if isinstance(error, BulkWriteError):
        return int(error.details["nInserted"])
    # The library refused it, and does not say what it had sent by then: not the end, at any rate.
    return len(group.keys) + len(group.messages_and_jobs())


def _own_block(stored: Document, writer: str) -> Block:
    [block] = [block for block in blocks_of(stored) if block.writer == writer]
    return block


def _reserved_fields(writer: str) -> Document:
    fields = ("queue", "metadata", "created_at", "next", "subscribed_until", "turns")
    return {**dict.fromkeys(fields, 1), f"in_flight.{writer}": 1}


def _reservation(writer: str, positions: int) -> list[Document]:
    """The update that gives a writer its next block, on a document that may not exist yet."""
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
