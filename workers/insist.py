"""Going on when the store comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zaqar_notify.errors import StorageUnavailable

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

T = TypeVar("T")


class Stop:
    """Says that the worker is to stop; every pause of the worker ends with it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Wait that long, or until the stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return


async def insist(operation: Callable[[], Awaitable[T]], stop: Stop) -> T:
    """Repeat a storage operation until the store answers, with pauses of up to 5 seconds.

    Raises:
        StorageUnavailable: The stop came first.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await operation()
        except StorageUnavailable as error:
            if stop.is_set():
                raise
            logger.warning(
                "The store is unavailable",
                extra={"action": "storage_unavailable", "error": str(error)},
            )
        await stop.pause(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
