"""Transfers: a queue is read from one message store as it is stored, and written to another.

A move copies a queue while it is in use. So the store that it leaves notes which parts change meanwhile:

    begin ─► read, page by page ─► changes, again and again ─► the queue is frozen ─► head, changes ─► drop
    prepare ─► write ─► write …                                                       activate

Until `activate`, no method of the store that the queue comes to shows what was written there. Each method may
be repeated after a crash. A process that slept through the end of its move does no harm: the store that is left
knows the *life* that goes, and the other one the move. Ids, markers and positions stay as they are. Bodies are copied as they lie in the
store: the keys of encryption are the service's.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import msgspec

from zaqar_notify.models import JsonObject, QueueRef

TRANSFERRED_BYTES = 1 << 20
"""A page ends with the message that brings it to this size."""


class ChangesLost(Exception):
    """The changes of a queue are not known any more, or it was purged or deleted: the copy is begun anew."""


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as it is stored. Instants are milliseconds since 1970.

    `moved_id` is the id of a message that came from another queue; other ids are made of position and salt.
    `held_until` is the end of its claim, or of its delay if it has no claim. `body` is as it lies in the store, with
    the message's attributes.
    """

    position: int
    client: str
    ttl: int
    posted_at: int
    expires_at: int
    body: bytes
    claim_count: int = 0
    held_until: int | None = None
    claim: str | None = None
    claim_ttl: int = 0
    moved_id: str | None = None
    checksum: str | None = None
    key_id: str | None = None


class StoredKey(msgspec.Struct, frozen=True):
    """A remembered post: `count` messages from the position `first` on, in the life of the queue with this salt."""

    digest: bytes
    fingerprint: bytes
    first: int
    count: int
    salt: bytes
    expires_at: int


class StoredCancellation(msgspec.Struct, frozen=True):
    """A note that the message with the id `what` was cancelled, or all of the life with this salt, in hex."""

    what: str
    at: int
    expires_at: int


class Part(msgspec.Struct):
    """A part of a queue: what is there, and the positions that have no message any more."""

    messages: list[StoredMessage] = []
    gone: list[int] = []
    keys: list[StoredKey] = []
    cancelled: list[StoredCancellation] = []

    @property
    def size(self) -> int:
        """How many things are in it."""
        return len(self.messages) + len(self.gone) + len(self.keys) + len(self.cancelled)


class CopiedPage(msgspec.Struct, frozen=True):
    """A part of a queue that is read; `next` is the place behind it, None at the end."""

    part: Part
    next: str | None


class Changes(msgspec.Struct, frozen=True):
    """The present state of things that have changed, and the cursor behind these changes."""

    part: Part
    cursor: str
    is_all: bool
    """Whether all changes that were made before the call are known with these."""


class StoredHead(msgspec.Struct, frozen=True):
    """A queue's head as it is stored. With `rules` None the queue has none, or was dropped at `revision`.

    `next` is behind all positions that were given; the next message has that one or a later one. `life` is the
    name of the queue's stay on this store, which no other stay has.
    """

    life: str
    salt: bytes
    next: int
    rules: JsonObject | None
    revision: int = 0
    subscribed_until: int | None = None
    turn: int = 0


class Transfer(ABC):
    """Reads and writes whole queues of one message store; clients' queues and internal ones alike."""

    # Of the store that a queue leaves.

    @abstractmethod
    async def begin(self, ref: QueueRef) -> str | None:
        """Note the queue's changes from now on.

        Returns:
            The cursor for `changes`, of printable characters; None: there is no such queue.
        """

    @abstractmethod
    async def read(self, ref: QueueRef, *, after: str | None, limit: int) -> CopiedPage:
        """A page of what is stored for the queue, from the place `after` of an earlier page on.

        It has messages in order, then remembered posts, then notes of cancelled messages. What changes
        while pages are read may be in none of them, or in an earlier state: see `changes`.
        """

    @abstractmethod
    async def changes(self, ref: QueueRef, cursor: str, *, limit: int) -> Changes:
        """The things that have changed behind the cursor, about `limit` things at most.

        Changes before the cursor may be forgotten by this call.

        Raises:
            ChangesLost: The life of the queue that the cursor is of has ended, or its changes are not known.
        """

    @abstractmethod
    async def end(self, ref: QueueRef) -> None:
        """Note no more changes of the queue."""

    @abstractmethod
    async def head(self, ref: QueueRef) -> StoredHead | None:
        """The head, once each post under way is stored or never will be; None: nothing is known of the queue."""

    @abstractmethod
    async def drop(self, ref: QueueRef, life: str) -> None:
        """Remove this stay of the queue, with all that is stored for it: it is on another store.

        The revision of its head is remembered as by `Heads.drop`. Nothing happens when the queue is here
        for another stay.
        """

    # Of the store that it comes to.

    @abstractmethod
    async def prepare(self, move: str, ref: QueueRef, salt: bytes) -> None:
        """Let this move write a queue with this salt. What it has written with another salt is discarded."""

    @abstractmethod
    async def write(self, move: str, ref: QueueRef, part: Part) -> None:
        """Store a part of the queue for this move, over what is there of it; unseen until `activate`.

        Nothing happens when the move was activated.

        Raises:
            ChangesLost: What the move has written is discarded.
        """

    @abstractmethod
    async def activate(self, move: str, ref: QueueRef, head: StoredHead) -> None:
        """Let the queue be here, with all that this move has written. Nothing happens when it was activated before.

        Raises:
            ChangesLost: What the move has written is discarded.
        """

    @abstractmethod
    async def discard(self, move: str, ref: QueueRef) -> None:
        """Remove what this move has written and not activated."""


def digest_of_key(ref: QueueRef, key: str) -> bytes:
    """The name of a post that is remembered under an idempotency key, on every store."""
    return hashlib.sha256("\0".join((ref.project, ref.name, key)).encode()).digest()


ARRIVING_PREFIX = "arriving."


def arriving(move: str, ref: QueueRef) -> str:
    """The name of the internal queue that stands for a queue until it is activated; no two have the same."""
    return f"{ARRIVING_PREFIX}{move}.{len(ref.project)}.{ref.project}.{ref.name}"
