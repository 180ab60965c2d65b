"""Keeping a process's clock to the store's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from zaqar_notify.clock import StoreClock
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.ending import end
from zaqar_notify.storage.planes import Storage

logger = logging.getLogger(__name__)

READINGS = 3
"""How often the store's clock is read before the first request: the quickest answer counts."""

READ_SECONDS = 15.0
"""Between readings; in that time clocks drift apart by a millisecond or so."""

STEP_SECONDS = 1.0
"""A difference that is worth a warning: the store's own clock was set, or another member leads."""


class _Reading(NamedTuple):
    instant: datetime
    asked_at: float
    answered_at: float

    @property
    def took_seconds(self) -> float:
        return self.answered_at - self.asked_at


@asynccontextmanager
async def store_clock(
    storage: Storage, *, clock: StoreClock | None = None, read_seconds: float = READ_SECONDS
) -> AsyncIterator[StoreClock]:
    """The store's clock, followed while the context is open; `storage` tells its watches by it.

    Raises:
        StorageUnavailable: The store gives no answer at first. Later on it is asked again.
    """
    clock = StoreClock() if clock is None else clock
    readings = [await _read(storage, clock) for _ in range(READINGS)]
    known = [reading for reading in readings if reading is not None]
    if known:
        _adjust(clock, min(known, key=lambda reading: reading.took_seconds))
    storage.clock = clock
    following = asyncio.create_task(_follow(storage, clock, read_seconds))
    try:
        yield clock
    finally:
        await end(following)


async def _follow(storage: Storage, clock: StoreClock, read_seconds: float) -> None:
    while True:
        await asyncio.sleep(read_seconds)
        try:
            reading = await _read(storage, clock)
        except StorageUnavailable:
            # The clock runs on unchanged; callers of the store report the outage.
            continue
        if reading is not None:
            _adjust(clock, reading)


async def _read(storage: Storage, clock: StoreClock) -> _Reading | None:
    asked_at = clock.seconds()
    instant = await storage.read_clock()
    return None if instant is None else _Reading(instant, asked_at, clock.seconds())


def _adjust(clock: StoreClock, reading: _Reading) -> None:
    drift = clock.adjust(
        reading.instant, asked_at=reading.asked_at, answered_at=reading.answered_at
    )
    if abs(drift.total_seconds()) > STEP_SECONDS:
        logger.warning(
            "The store's clock has jumped; leases last longer or shorter by as much",
            extra={"action": "clock_jumped", "seconds": round(drift.total_seconds(), 3)},
        )
