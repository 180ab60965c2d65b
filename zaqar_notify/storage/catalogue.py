"""The contract of the catalogue: which pool has a queue; a part of the control store.

An entry is made before the queue's record and head. It outlives the queue by a day at least, and its subscriptions,
so that no process that remembers it is wrong: see `places`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import QueueRef


class Entry(msgspec.Struct, frozen=True):
    """`doubted_at`: since when it may be that there is no such queue; None: it is known that there is."""

    ref: QueueRef
    pool: str
    doubted_at: datetime | None


class Catalogue(ABC):
    """Entries by queue."""

    @abstractmethod
    async def get(self, ref: QueueRef) -> str | None:
        """The pool of the queue; None: there is no entry. What was read stays, whatever fails over."""

    @abstractmethod
    async def place(self, ref: QueueRef, pool: str, *, now: datetime) -> str:
        """The pool of the queue, which is `pool` if there was no entry; atomic. The entry is doubted from `now` on,
        until its queue is found."""

    @abstractmethod
    async def move(
        self, ref: QueueRef, source: str, target: str, *, attempt: str | None = None
    ) -> bool:
        """Let the queue be on `target` if it is on `source`; whether it was.

        Args:
            attempt: The attempt that must be let now, see `let`; None: any, or none.
        """

    @abstractmethod
    async def let(self, ref: QueueRef, pool: str, attempt: str) -> bool:
        """Let this attempt of a move, and no other, bring the queue to another pool; with "" none may. Nothing
        changes when the queue is not on `pool`; whether it was."""

    @abstractmethod
    async def doubt(self, ref: QueueRef, *, now: datetime) -> None:
        """Note that there may be no such queue from `now` on. No error if there is no entry."""

    @abstractmethod
    async def doubted(self, *, before: datetime, limit: int) -> Sequence[Entry]:
        """Up to `limit` entries that have been doubted since before this instant, the longest doubted first."""

    @abstractmethod
    async def believe(self, entry: Entry) -> None:
        """End the doubt in an entry, if it was not doubted anew meanwhile."""

    @abstractmethod
    async def remove(self, entry: Entry) -> None:
        """Remove an entry, if it was not doubted anew meanwhile."""

    @abstractmethod
    async def of_pool(self, pool: str, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        """Up to `limit` queues on the pool that come after a queue, in order; None: from the first on."""
