"""A queue that stands still for a moment, so that the rest of it can be copied."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.places import Places

STILL_SECONDS = 0.3
"""Within which operations under way must have ended, in every process."""


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
    async def announce(self, ref: QueueRef, pool: str) -> None:
        """The queue is about to stand still: let processes look for that often from now on.

        Raises:
            NotStill: One does not answer.
        """


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
            raise NotStill from None

    async def open(self, ref: QueueRef, former: str, pool: str, attempt: str) -> None:
        self._places.thaw(ref, pool)
