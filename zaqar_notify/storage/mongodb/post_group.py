"""What one group of posts is about to write: for each queue a part, with a block of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import NewMessage, Posted, Queue, QueueRef
from zaqar_notify.storage.base import IdempotencyKey, Post
from zaqar_notify.storage.mongodb.connection import Document, Insertable
from zaqar_notify.storage.mongodb.documents import EncodedMessage, encoded
from zaqar_notify.storage.mongodb.grouping import Call
from zaqar_notify.storage.mongodb.records import SEAL_LIFE, Block
from zaqar_notify.storage.mongodb.reserving import Reservation


class Draft(msgspec.Struct, frozen=True):
    """The messages of a post as they are on a queue like this, and encoded."""

    queue: Queue | None
    messages: Sequence[NewMessage]
    encoded: Sequence[EncodedMessage]


class Asked(msgspec.Struct):
    """A post, or messages that move here from another queue; `positions` is what it needs at least."""

    ref: QueueRef
    now: datetime
    post: Post | None = None
    moved: Sequence[Document] = ()
    moved_ttl: int | None = None
    positions: int = 0
    drafted: Draft | None = None

    @property
    def key(self) -> IdempotencyKey | None:
        return None if self.post is None else self.post.idempotency_key

    def draft(self, post: Post, queue: Queue | None) -> Draft:
        """Its post by what the queue says, anew only if it says something else than at the last call.

        Raises:
            ValidationFailed: The queue takes no such post.
        """
        if self.drafted is None or self.drafted.queue != queue:
            messages = post.settle(queue)
            self.drafted = Draft(
                queue, messages, encoded(messages, client_id=post.client_id, now=self.now)
            )
        return self.drafted


class Jobs(msgspec.Struct, frozen=True):
    """The jobs of one post to a queue of the project."""

    now: datetime
    project: str
    jobs: Sequence[tuple[QueueRef, NewMessage]]


class StoredJobs(msgspec.Struct):
    """Jobs as they are about to be stored on one internal queue, some of them delayed to these milliseconds."""

    documents: list[Insertable] = []
    delayed_to: list[int] = []


class Part:
    """One queue's part of a group: all that its block's seal vouches for."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self.record = reservation.record
        self.block = reservation.block
        self.keys: list[Document] = []
        self.documents: list[Insertable] = []
        self.jobs: list[Jobs] = []
        self.stored_jobs: dict[QueueRef, StoredJobs] = {}
        self.answers: list[tuple[Call[Asked, Posted], Posted]] = []
        self.visible = 0
        self.delayed_to: list[int] = []
        self.seal_until = self.block.deadline + SEAL_LIFE
        self.created_at: datetime | None = None
        self._next = self.block.first

    @property
    def room(self) -> int:
        """How many messages still fit in."""
        return self.block.last - self._next

    def positions(self, count: int) -> list[int]:
        """The next free positions; they are taken by `add`."""
        return list(range(self._next, self._next + count))

    def add(
        self, documents: Sequence[Insertable], now: datetime, *, delayed_to: Sequence[int]
    ) -> None:
        """Take up messages, of which some are delayed to these milliseconds."""
        self._next += len(documents)
        self.documents += documents
        self.created_at = self.created_at or now
        self.delayed_to += delayed_to
        self.visible += len(documents) - len(delayed_to)

    def seal(self) -> Document:
        return {
            "_id": self.block.seal_id,
            "queue": self.block.queue,
            "writer": self.block.writer,
            "reclaim_at": self.seal_until,
        }


class Group:
    """The parts, by queue."""

    def __init__(self, parts: dict[QueueRef, Part]) -> None:
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

    def stored_jobs(self) -> dict[QueueRef, StoredJobs]:
        """By the queue that they are on."""
        jobs: dict[QueueRef, StoredJobs] = {}
        for part in self.parts.values():
            for ref, stored in part.stored_jobs.items():
                together = jobs.setdefault(ref, StoredJobs())
                together.documents += stored.documents
                together.delayed_to += stored.delayed_to
        return jobs

    def messages_and_jobs(self) -> list[Insertable]:
        messages = [stored for part in self.parts.values() for stored in part.documents]
        jobs = [stored for each in self.stored_jobs().values() for stored in each.documents]
        return [*messages, *jobs]

    def documents(self) -> list[Insertable]:
        """In the order in which they are inserted.

        A block that was fenced refuses its first message, and with it all that follows: no job of a
        post that is about to be done anew is seen, unless the fence comes in the middle of the insert.
        """
        seals = [part.seal() for part in self.parts.values()]
        return [*self.keys, *self.messages_and_jobs(), *seals]

    def divided(self, inserted: int) -> tuple[Group, Group, list[Insertable]]:
        """The parts whose seals are among the first so many documents, those that are refused, and
        what is there of the messages and jobs of these."""
        behind_keys = max(0, inserted - len(self.keys))
        seals = max(0, behind_keys - len(self.messages_and_jobs()))
        parts = list(self.parts.items())
        refused = Group(dict(parts[seals:]))
        # With a seal all messages and jobs are there. Without one nothing is sealed, and these are all.
        return Group(dict(parts[:seals])), refused, refused.messages_and_jobs()[:behind_keys]
