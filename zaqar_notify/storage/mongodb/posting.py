"""Commit groups: what is posted while a write is under way is written together in the next.

For a group of posts there is one reservation a queue (`reserving`), and one ordered insert
(`post_group`): remembered keys, messages, jobs in places of their own (`jobs`), and a seal for each
queue's block. No part of it is acknowledged before a majority has its seal. The reservation does
not wait for one, as a rule: the insert does so for both, unless the primary may have changed in between.

The writer of a group has a name, and under it one slot on each queue's document; the next
reservation overwrites it. After a group that was refused, or whose fate is unknown, the process takes
a new name, so that its old slots stay until somebody sees how their blocks have ended.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pymongo.errors import BulkWriteError, PyMongoError

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import NewMessage, Posted, Queue, QueueRef
from zaqar_notify.storage.base import IdempotencyKey, Post
from zaqar_notify.storage.gathering import Gathering
from zaqar_notify.storage.mongodb.connection import (
    BY_ID,
    BY_MOVED_ID,
    Connection,
    Document,
    Insertable,
)
from zaqar_notify.storage.mongodb.documents import (
    at_place,
    encoded,
    held_until_of,
    id_of,
    to_id,
    to_moved,
)
from zaqar_notify.storage.mongodb.failures import is_duplicate, is_refused, rerun, storage_errors
from zaqar_notify.storage.mongodb.grouping import Call, Together, all_of
from zaqar_notify.storage.mongodb.jobs import JobPlaces
from zaqar_notify.storage.mongodb.post_group import Asked, Group, Jobs, Part, StoredJobs
from zaqar_notify.storage.mongodb.records import Records, fence_at
from zaqar_notify.storage.mongodb.remembering import (
    Remembered,
    RememberedPosts,
    Remembering,
    remembered_document,
)
from zaqar_notify.storage.mongodb.reserving import MANY_QUEUES, Reservation, Reserving
from zaqar_notify.storage.mongodb.waiting import Waiting

POSTS_TOGETHER = 128
TRIES = 4
WORTH_DRAFTING = 4
"""Posts in a group. Fewer are encoded sooner than a task is begun for it."""
TURNS_TO_SEND = 3
"""Turns of the event loop until a command has left. Should it take more, it leaves a little later."""


class Posting:
    """The writes that append to queues."""

    def __init__(
        self, connection: Connection, records: Records, waiting: Waiting, gathering: Gathering
    ) -> None:
        self._connection = connection
        self._records = records
        self._waiting = waiting
        self._reserving = Reserving(connection)
        self._keys = Remembering(connection, records)
        self._job_places = JobPlaces(connection, waiting)
        self._posts: Together[Asked, Posted] = Together(
            self._write, most=POSTS_TOGETHER, gathering=gathering
        )
        self._after: set[asyncio.Task[None]] = set()
        self._last_seen: dict[QueueRef, Queue | None] = {}
        """The last group's queues, as they were at its reservation."""
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
        is_durable = self._must_be_durable(asked, needs)
        term = self._connection.term()
        finding = self._find_and_reserve(asked, needs, durable=is_durable)
        if len(asked) < WORTH_DRAFTING:
            remembered, reserved = await finding
        else:
            (remembered, reserved), _ = await asyncio.gather(finding, self._draft(asked))
        self._last_seen = {ref: each.record.queue for ref, each in reserved.items()}
        group = Group({ref: Part(reservation) for ref, reservation in reserved.items()})
        moved_before = await self._moved_before(asked, group)
        for call in calls:
            try:
                self._settle(group, call, remembered, moved_before)
            except Exception as error:  # A fault of one post is its caller's, not the group's.
                call.fail(error)
        await self._add_jobs(group)
        await self._create_queues(group)
        refusal = await self._insert(group)
        is_sure = is_durable or term.has_lasted
        if refusal is None:
            await self._acknowledge(group, is_sure=is_sure)
            return []
        # What has its seal is complete: others may have believed it, and rely on it.
        sealed, refused, written = group.divided(_inserted(group, refusal))
        try:
            await self._acknowledge(sealed, is_sure=is_sure)
        finally:
            await self._take_back(refused, written, is_sure=is_sure)
        if is_duplicate(refusal):
            return [call for call, _ in refused.answers if not call.is_settled]
        await self._write_alone(refused, refusal)
        return []

    async def _write_alone(self, group: Group, error: PyMongoError) -> None:
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
        group: Group,
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
        draft = asked.draft(asked.post, part.record.queue)
        messages = draft.messages
        if self._is_too_large(call, part, len(messages)):
            return
        queue = part.block.queue
        positions = part.positions(len(messages))
        ids = [to_id(queue, position) for position in positions]
        jobs: list[tuple[QueueRef, NewMessage]] = []
        if part.record.has_subscription(asked.now):
            jobs = list(asked.post.jobs(draft.queue, ids, messages))
        part.add(
            [
                at_place(message, queue, position)
                for position, message in zip(positions, draft.encoded, strict=True)
            ],
            asked.now,
            delayed_to=[held_until_of(message, asked.now) for message in messages if message.delay],
        )
        asked.drafted = None  # Its documents hold the bodies now.
        if key is not None:
            post = Remembered(
                key.fingerprint, positions[0], len(positions), part.block, is_sealed=True
            )
            part.keys.append(remembered_document(asked.ref, key, post, asked.now))
            part.seal_until = max(part.seal_until, post.seal_until(key))
            remembered[asked.ref, key.key] = post
        if jobs:
            part.jobs.append(Jobs(asked.now, asked.ref.project, jobs))
        part.answers.append((call, Posted(ids, owes_deliveries=bool(jobs))))

    def _settle_moved(self, part: Part, call: Call[Asked, Posted], moved_before: set[str]) -> None:
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
            delayed_to=(),
        )
        part.answers.append((call, Posted([], owes_deliveries=False)))

    def _repeat(
        self, part: Part, call: Call[Asked, Posted], key: IdempotencyKey, before: Remembered
    ) -> None:
        """Answer as the first post was, once that is certain to be stored."""
        if before.is_sealed:
            part.answers.append((call, before.answer(key)))
        else:
            self._start(self._put_off(call, key, before))

    def _is_too_large(self, call: Call[Asked, Posted], part: Part, count: int) -> bool:
        """Put the post off to a group with a larger block."""
        if count <= part.room:
            return False
        call.ask.positions = count
        self._posts.put(call)
        return True

    async def _add_jobs(self, group: Group) -> None:
        by_queue: dict[QueueRef, list[tuple[Part, Jobs, NewMessage]]] = {}
        for part in group.parts.values():
            for post in part.jobs:
                for ref, job in post.jobs:
                    by_queue.setdefault(ref, []).append((part, post, job))
        for ref, jobs in by_queue.items():
            queue, first = await self._job_places.take(ref, len(jobs))
            for position, (part, post, job) in enumerate(jobs, first):
                [message] = encoded([job], client_id=post.project, now=post.now)
                stored = part.stored_jobs.setdefault(ref, StoredJobs())
                stored.documents.append(at_place(message, queue, position))
                if job.delay:
                    stored.delayed_to.append(held_until_of(job, post.now))

    # The steps that ask the store

    async def _draft(self, asked: Sequence[Asked]) -> None:
        """Encode the posts while the reservation is under way, by what the group before has seen of
        their queues. It says the same, as a rule; if not, they are encoded anew."""
        for _ in range(TURNS_TO_SEND):
            await asyncio.sleep(0)
        for one in asked:
            if one.post is not None and one.ref in self._last_seen:
                with suppress(Exception):  # It is its caller's, once the queue's present is known.
                    one.draft(one.post, self._last_seen[one.ref])

    def _must_be_durable(self, asked: Sequence[Asked], needs: dict[QueueRef, int]) -> bool:
        """Whether the reservation has to wait for a majority by itself."""
        return (
            len(needs) >= MANY_QUEUES
            # Keys and moved messages are believed by those who find them, acknowledged or not.
            or any(one.key is not None or one.moved for one in asked)
            or self._connection.hides_primary
        )

    async def _find_and_reserve(
        self, asked: Sequence[Asked], needs: dict[QueueRef, int], *, durable: bool
    ) -> tuple[RememberedPosts, dict[QueueRef, Reservation]]:
        keys = [(one.ref, one.key, one.now) for one in asked if one.key is not None]
        reserving = self._reserving.reserve(needs, self._records.writer, durable=durable)
        try:
            if not keys:
                return {}, await reserving
            return await asyncio.gather(self._keys.find(keys), reserving)
        except BaseException:
            # The reservation may yet be made, over the one that the next group makes.
            self._take_new_name()
            raise

    async def _insert(self, group: Group) -> PyMongoError | None:
        """Insert the group; the error that says which part of it was refused, if it was.

        Raises:
            PyMongoError: Whether it happened is unknown, and may yet be decided.
        """
        try:
            await self._connection.messages.insert_many(group.documents())
        except PyMongoError as error:
            self._take_new_name()
            if not is_refused(error):
                raise
            return error
        return None

    async def _moved_before(self, asked: Sequence[Asked], group: Group) -> set[str]:
        """The ids of messages that a move which was broken off brought here already."""
        moves = [one for one in asked if one.moved]
        if not moves:
            return set()
        # Ends what was broken off: a copy in a block that is still open may be taken away again.
        await self._records.get_many([move.ref for move in moves])
        wanted = {
            "queue": {"$in": [group.parts[move.ref].block.queue for move in moves]},
            "moved_id": {"$in": [id_of(stored) for move in moves for stored in move.moved]},
        }
        messages = self._connection.durable_messages
        if await messages.find_one(wanted, {"_id": 1}, hint=BY_MOVED_ID) is None:
            return set()
        # From now on whoever takes back the move that brought them leaves them here.
        await rerun(
            lambda: self._connection.messages.update_many(
                wanted, {"$set": {"kept": True}}, hint=BY_MOVED_ID
            )
        )
        found = messages.find({**wanted, "kept": True}, {"moved_id": 1}, hint=BY_MOVED_ID)
        return {stored["moved_id"] async for stored in found}

    async def _create_queues(self, group: Group) -> None:
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

    async def _make_sure(self, group: Group) -> None:
        """Remove the group, unless its blocks are its own.

        Raises:
            StorageUnavailable: They are not, or nobody can say.
        """
        holds = False
        try:
            looks = [self._reserving.holds(part.reservation) for part in group.parts.values()]
            holds = all(await all_of(looks))
        finally:
            if not holds:
                # A block that is given to us again must not have our seal already.
                self._take_new_name()
        if not holds:
            await self._remove(group.messages_and_jobs())
            raise StorageUnavailable("The queue or the primary changed in the middle of the post")

    async def _take_back(
        self, group: Group, inserted: Sequence[Insertable], *, is_sure: bool
    ) -> None:
        """Remove what a group wrote that can't be acknowledged, and end its blocks."""
        await self._remove(inserted)
        for stored in group.keys:
            await self._keys.remove(stored)
        # A key that leads here is not to be believed.
        fences = [fence_at(block, block.seal_id) for block in group.blocks]
        await self._records.take_places(fences, group.blocks if is_sure else [])

    async def _remove(self, documents: Sequence[Insertable]) -> None:
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
                    "kept": {"$exists": False},
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

    async def _acknowledge(self, group: Group, *, is_sure: bool) -> None:
        """Answer what is sealed, once its blocks are certain to be its own."""
        if not is_sure:
            await self._make_sure(group)
        self._written(group)

    def _written(self, group: Group) -> None:
        for part in group.parts.values():
            self._records.sealed(part.block)
        for call, posted in group.answers:
            call.answer(posted)
        for part in group.parts.values():
            self._waiting.posted(part.record.ref, part.block, part.visible)
            if part.delayed_to:
                self._waiting.held(part.record.ref, min(part.delayed_to))
        for ref, jobs in group.stored_jobs().items():
            self._job_places.stored(ref, len(jobs.documents) - len(jobs.delayed_to))
            if jobs.delayed_to:
                self._waiting.held(ref, min(jobs.delayed_to))

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


def _inserted(group: Group, error: PyMongoError) -> int:
    """How many documents were inserted of a group that was refused, at most."""
    if isinstance(error, BulkWriteError):
        return int(error.details["nInserted"])
    # The library refused it, and does not say what it had sent by then: not the end, at any rate.
    return len(group.keys) + len(group.messages_and_jobs())
