"""The documents of one batch of posts: for each queue a part, with a block of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import NewMessage, Posted, QueueRef
from zaqar_notify.storage.base import IdempotencyKey, Post
from zaqar_notify.storage.batching import BatchItem
from zaqar_notify.storage.mongodb.blocks import SEAL_LIFE, fence_at
from zaqar_notify.storage.mongodb.connection import Document, Insertable
from zaqar_notify.storage.mongodb.documents import held_until_of, new_documents, to_id, to_moved
from zaqar_notify.storage.mongodb.remembering import (
    Remembered,
    RememberedPosts,
    remembered_document,
)
from zaqar_notify.storage.mongodb.reserving import Reservation


class Asked(msgspec.Struct):
    """A post, or messages that move here from another queue. It needs `positions` positions at least."""

    ref: QueueRef
    now: datetime
    post: Post | None = None
    moved: Sequence[Document] = ()
    moved_ttl: int | None = None
    positions: int = 0

    @property
    def key(self) -> IdempotencyKey | None:
        return None if self.post is None else self.post.idempotency_key


class Appended(msgspec.Struct):
    """The documents that a batch appends to one queue; some are delayed to these milliseconds."""

    documents: list[Insertable] = []
    delayed_to: list[int] = []

    @property
    def visible(self) -> int:
        return len(self.documents) - len(self.delayed_to)

    def add(self, documents: Iterable[Insertable], delayed_to: Iterable[int] = ()) -> None:
        self.documents += documents
        self.delayed_to += delayed_to

    def add_new(
        self,
        messages: Sequence[NewMessage],
        queue: bytes,
        first: int,
        *,
        client_id: str,
        now: datetime,
    ) -> None:
        """Append messages from a position of the queue on."""
        self.add(
            new_documents(messages, queue, first, client_id=client_id, now=now),
            [until for message in messages if (until := held_until_of(message, now))],
        )


class NewJob(msgspec.Struct, frozen=True):
    """A message for an internal queue, of a post at that instant."""

    ref: QueueRef
    message: NewMessage
    now: datetime


class Part:
    """One queue's part of a batch: all documents that the seal of its block vouches for."""

    def __init__(self, reservation: Reservation) -> None:
        self.state = reservation.state
        self.block = reservation.block
        self.keys: list[Document] = []
        self.messages = Appended()
        self._next = self.block.first
        self.jobs: list[NewJob] = []
        self.stored_jobs: dict[QueueRef, Appended] = {}
        self.answers: list[tuple[BatchItem[Asked, Posted], Posted]] = []
        self._seal_until = self.block.deadline + SEAL_LIFE

    @property
    def room(self) -> int:
        """How many messages still fit in."""
        return self.block.last - self._next

    def add_post(
        self,
        item: BatchItem[Asked, Posted],
        post: Post,
        messages: Sequence[NewMessage],
        remembered: RememberedPosts,
    ) -> None:
        """Take up a post. A key of it joins those that are remembered."""
        asked, queue = item.request, self.block.queue
        first = self._take(len(messages))
        ids = [to_id(queue, position) for position in range(first, first + len(messages))]
        jobs: Sequence[tuple[QueueRef, NewMessage]] = ()
        if self.state.has_subscription(asked.now) or post.notifies_later:
            jobs = list(post.jobs(self.state.rules or {}, ids, messages))
        if post.is_kept:
            self.messages.add_new(messages, queue, first, client_id=post.client_id, now=asked.now)
        if (key := asked.key) is not None:
            keyed = Remembered(key.fingerprint, first, len(ids), self.block, is_sealed=True)
            self.keys.append(remembered_document(asked.ref, key, keyed, asked.now))
            self._seal_until = max(self._seal_until, keyed.seal_until(key))
            remembered[asked.ref, key.key] = keyed
        self.jobs += [NewJob(ref, job, asked.now) for ref, job in jobs]
        self.answers.append((item, Posted(ids, owes_deliveries=bool(jobs))))

    def add_moved(self, item: BatchItem[Asked, Posted], moved: Sequence[Document]) -> None:
        """Take up messages of another queue."""
        asked, queue = item.request, self.block.queue
        self.messages.add(
            to_moved(stored, queue=queue, position=position, ttl=asked.moved_ttl, now=asked.now)
            for position, stored in enumerate(moved, self._take(len(moved)))
        )
        self.answers.append((item, Posted([], owes_deliveries=False)))

    def _take(self, count: int) -> int:
        """The first of the next `count` positions of the block."""
        first = self._next
        self._next += count
        return first

    def seal(self) -> Document:
        return {
            "_id": self.block.seal_id,
            "queue": self.block.queue,
            "reclaim_at": self._seal_until,
        }

    def fence(self) -> Document:
        """The document that takes the seal's place when the part was refused."""
        return fence_at(self.block, self.block.seal_id)


class PostBatch:
    """The parts, by queue."""

    def __init__(self, parts: dict[QueueRef, Part]) -> None:
        self.parts = parts

    @property
    def keys(self) -> list[Document]:
        return [stored for part in self.parts.values() for stored in part.keys]

    @property
    def answers(self) -> list[tuple[BatchItem[Asked, Posted], Posted]]:
        return [answer for part in self.parts.values() for answer in part.answers]

    def messages_and_jobs(self) -> list[Insertable]:
        parts = self.parts.values()
        messages = [stored for part in parts for stored in part.messages.documents]
        jobs = [
            stored
            for part in parts
            for appended in part.stored_jobs.values()
            for stored in appended.documents
        ]
        return [*messages, *jobs]

    def documents(self) -> list[Insertable]:
        """The documents in the order in which they are inserted.

        A fenced block refuses its first message, and with it all that follows: no job of a post that is
        about to be done anew is seen, unless the fence comes in the middle of the insert.
        """
        seals = [part.seal() for part in self.parts.values()]
        return [*self.keys, *self.messages_and_jobs(), *seals]

    def divided(self, inserted: int) -> tuple[PostBatch, PostBatch]:
        """The parts with seals among the first `inserted` documents, and the refused parts."""
        seals = max(0, inserted - len(self.keys) - len(self.messages_and_jobs()))
        parts = list(self.parts.items())
        return PostBatch(dict(parts[:seals])), PostBatch(dict(parts[seals:]))
