"""Heads: the queues of a message store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import JsonObject, QueueRef


class Head(msgspec.Struct, frozen=True):
    """The part of a queue that a message store keeps beside the messages.

    `rules` are those keys of the record's metadata that posts and claims obey, as of `revision` of the
    record. No subscription of the queue lives longer than `subscribed_until`; None: there is none. `turn`
    changes when that is raised, and is another one in each life of the queue.
    """

    rules: JsonObject
    revision: int
    subscribed_until: datetime | None
    turn: int


class HeadMissing(Exception):
    """A write would put messages on a client's queue that has no head: nothing was written."""

    def __init__(self, ref: QueueRef) -> None:
        super().__init__(ref)
        self.ref = ref


class Heads(ABC):
    """The queues of a message store. An internal queue has a head from its first message on."""

    @abstractmethod
    async def get(self, ref: QueueRef) -> Head | None:
        """The head; None when the queue has none, or was dropped."""

    @abstractmethod
    async def put(
        self, ref: QueueRef, rules: JsonObject, *, revision: int, subscribed_until: datetime | None
    ) -> bool:
        """Make the head, or bring it to a later revision; that raises `subscribed_until`, never lowers it.

        Nothing changes when the head is of this revision or a later one, or was dropped at one.

        Returns:
            Whether the head is of `revision` now, with these rules.
        """

    @abstractmethod
    async def revision(self, ref: QueueRef) -> int:
        """The revision that the head has, or was dropped at within the last day; 0 when unknown."""

    @abstractmethod
    async def drop(self, ref: QueueRef, *, revision: int, now: datetime) -> None:
        """Remove the queue with its messages and claims, and remember for a day `revision`, or a later one it had.

        Messages that are delayed at `now` are cancelled: see `Messages.cancelled`. Positions are never
        used twice: a marker from before the deletion hides nothing posted later.
        """

    @abstractmethod
    async def drop_internal(self, refs: Sequence[QueueRef]) -> None:
        """Remove internal queues with all that is on them; nothing is remembered or cancelled."""

    @abstractmethod
    async def internal(self, *, after: str, limit: int) -> Sequence[str]:
        """Names of internal queues, bytewise ascending, after the name `after`."""

    @abstractmethod
    async def of_clients(self, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        """Clients' queues that have a head, by project and name, bytewise ascending, after the queue `after`."""

    @abstractmethod
    async def count_internal(self, *, prefix: str) -> int:
        """How many messages are on the internal queues with names that begin with `prefix`.

        Claimed and delayed ones count; those that have expired and are not swept yet may count. The
        cost grows with the messages that are counted.
        """

    @abstractmethod
    async def raise_subscribed(self, ref: QueueRef, until: datetime) -> bool:
        """Let the queue be subscribed to until then, at least.

        Posts that begin after the return write jobs; those that were under way are stored by then.

        Returns:
            False when there is no head.
        """

    @abstractmethod
    async def lower_subscribed(self, ref: QueueRef, until: datetime | None, *, turn: int) -> bool:
        """Let the queue be subscribed to until then, not longer.

        Returns:
            False when the head's turn is another one: nothing changed.
        """
