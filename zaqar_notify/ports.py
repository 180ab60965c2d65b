"""The interface that the domain asks of its surroundings."""

from __future__ import annotations

from typing import Protocol


class Doorbell(Protocol):
    """Tells the workers that deliveries are owed. A lost ring costs latency only."""

    def ring(self, partition: int) -> None:
        """Never waits and never fails.

        Args:
            partition: Of the internal queues that have work, see `partitions.partition_of`.
        """
