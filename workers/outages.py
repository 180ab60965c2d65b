"""Going on when the store comes back: an operation is repeated until the store answers, or the stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zaqar_notify.errors import KeyMissing, StorageUnavailable

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

T = TypeVar("T")


class Outage:
    """Whether the store gives this worker no answer: told once when it begins, and once when it is over.

    Dozens of operations wait for the store at the same time. The failure of each is logged for debugging.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def met(self, error: StorageUnavailable) -> None:
        level = logging.WARNING if self._since is None else logging.DEBUG
        if self._since is None:
            self._since = time.monotonic()
        logger.log(
            level,
            "The store is unavailable; the engine goes on when it answers",
            extra={"action": "storage_unavailable", "error": str(error)},
        )

    def over(self) -> None:
        """An operation that met it, or one that is made from time to time, got its answer."""
        if self._since is None:
            return
        seconds = round(time.monotonic() - self._since, 1)
        self._since = None
        logger.warning(
            "The store answers again",
            extra={"action": "storage_available", "after_seconds": seconds},
        )


class Stop:
    """Says that the worker is to stop; every pause of the worker ends with it."""

    def __init__(self) -> None:
        self.outage = Outage()
        """Of the store."""
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


def never() -> bool:
    """Of stores that are always waited for."""
    return False


async def until_answered(
    operation: Callable[[], Awaitable[T]],
    stop: Stop,
    *,
    outage: Outage | None = None,
    is_hopeless: Callable[[], bool] = never,
) -> T:
    """Repeat a storage operation until the store answers, with pauses of up to 5 seconds.

    Args:
        outage: Of the store that is asked, if it is told.
        is_hopeless: Is asked after a failure: there is no such store any more, or nothing is to wait for it.

    Raises:
        StorageUnavailable: The stop came first, or it is hopeless.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            answer = await operation()
        except StorageUnavailable as error:
            if stop.is_set() or is_hopeless():
                raise
            # A job that waits for its key is no outage: other jobs are answered.
            if outage is not None and not isinstance(error, KeyMissing):
                outage.met(error)
        else:
            if outage is not None:
                outage.over()
            return answer
        await stop.pause(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
