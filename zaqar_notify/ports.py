"""The interface that the domain asks of its surroundings."""

from __future__ import annotations

from typing import Protocol

from zaqar_notify.storage.internal import Partition


class Doorbell(Protocol):
    """Tells the workers that deliveries are owed. A lost ring costs latency only."""

    def ring(self, partition: Partition) -> None:
        """Never waits and never fails.

        Args:
            partition: Whose internal queues have work, see `partitions.partition_of`.
        """

    def ring_soon(self, partition: Partition) -> None:
        """The store is about to take deliveries. A ring that needs a while may start now; `ring` follows if they are
        stored."""
