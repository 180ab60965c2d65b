"""A queue that stands still for a moment, so that the rest of it can be copied."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

from zaqar_notify.clock import new_id
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.moving import notices
from zaqar_notify.storage.moving.notices import Kind, Notice
from zaqar_notify.storage.places import Places

STILL_SECONDS = 0.4
"""Within which operations under way must have ended, in every process."""


HEARD_SECONDS = 3.0
"""Within which processes hear of an announcement: they look for notices every second."""
FOLLOWED_SECONDS = 20.0
"""Within which each process knows that a queue has moved, or counts as gone."""
LOOK_SECONDS = 0.015
"""Between two looks at answers."""


class NotStill(Exception):
    """The queue did not come to a stand in time: it goes on where it is, and is tried again later."""


class Gates(ABC):
    """The gates of a queue in all processes that use it."""

    @abstractmethod
    async def close(self, ref: QueueRef, pool: str, attempt: str) -> None:
        """Have all operations on a queue of this pool wait. `open` must follow in any case.

        Raises:
            NotStill: Some go on.
        """

    @abstractmethod
    async def open(self, ref: QueueRef, former: str, pool: str, attempt: str) -> None:
        """Let operations go on, on the pool that has the queue now; it was on the former one."""

    @abstractmethod
    async def until_open(self, former: str, attempt: str) -> None:
        """Wait until every process has opened its gate, and knows where the queue is.

        Raises:
            NotStill: One does not answer.
        """

    @abstractmethod
    async def announce(self, ref: QueueRef, pool: str) -> None:
        """The queue is about to stand still: let processes look for that often from now on.

        Raises:
            NotStill: One does not answer.
        """


class SharedGates(Gates):
    """Of processes that share their stores: each closes its own gate, and answers."""

    def __init__(self, pools: Mapping[str, MessageStore]) -> None:
        self._pools = pools

    async def announce(self, ref: QueueRef, pool: str) -> None:
        await self._tell_and_wait(Kind.ANNOUNCED, ref, pool, new_id(), HEARD_SECONDS)

    async def close(self, ref: QueueRef, pool: str, attempt: str) -> None:
        await self._tell_and_wait(Kind.STILL, ref, pool, attempt, STILL_SECONDS)

    async def open(self, ref: QueueRef, former: str, pool: str, attempt: str) -> None:
        notice = Notice(Kind.OPEN, ref.project, ref.name, pool, attempt)
        await notices.tell(self._pools[former], notice)

    async def until_open(self, former: str, attempt: str) -> None:
        await self._wait(self._pools[former], Kind.OPEN, attempt, FOLLOWED_SECONDS)

    async def _tell_and_wait(
        self, kind: Kind, ref: QueueRef, pool: str, attempt: str, seconds: float
    ) -> None:
        store = self._pools[pool]
        await notices.tell(store, Notice(kind, ref.project, ref.name, pool, attempt))
        await self._wait(store, kind, attempt, seconds)

    async def _wait(self, store: MessageStore, kind: Kind, attempt: str, seconds: float) -> None:
        """Wait for the answers of all processes that use the store. One that begins to do so reads the notice first."""
        try:
            async with asyncio.timeout(seconds):
                waited_for = await notices.members(store)
                while waited_for - await notices.answered(store, attempt, kind):
                    await asyncio.sleep(LOOK_SECONDS)
                    if kind is not Kind.STILL:
                        waited_for &= await notices.members(store)
        except TimeoutError:
            raise NotStill(f"Not every process has answered that it is {kind.value}") from None


class OwnGates(Gates):
    """Of a process that has its stores to itself."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def announce(self, ref: QueueRef, pool: str) -> None:
        """This process needs no notice."""

    async def close(self, ref: QueueRef, pool: str, attempt: str) -> None:
        try:
            async with asyncio.timeout(STILL_SECONDS):
                await self._places.freeze(ref, pool)
        except TimeoutError:
            raise NotStill("An operation on the queue lasts long") from None

    async def open(self, ref: QueueRef, former: str, pool: str, attempt: str) -> None:
        self._places.thaw(ref, pool)

    async def until_open(self, former: str, attempt: str) -> None:
        """It is open."""
