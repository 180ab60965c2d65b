"""The doorbell of a process that delivers by itself."""

from __future__ import annotations

import asyncio

from zaqar_notify.storage.internal import Partition


class LocalDoorbell:
    """A bell for each partition, which the engine of this process listens to."""

    def __init__(self) -> None:
        self._bells: dict[Partition, asyncio.Event] = {}
        self.unknown = asyncio.Event()
        """Rung for a partition that has no bell yet."""

    def ring(self, partition: Partition) -> None:
        """Say that the partition's outbox has work. Deliveries that fall due in its retry queue need no ring."""
        self._bells.get(partition, self.unknown).set()

    def ring_soon(self, partition: Partition) -> None:
        """A ring here needs no time."""

    def bell(self, partition: Partition) -> asyncio.Event:
        return self._bells.setdefault(partition, asyncio.Event())
