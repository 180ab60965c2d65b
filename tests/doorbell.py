"""A doorbell for tests without workers."""

from __future__ import annotations

from zaqar_notify.storage.internal import Partition


class SilentDoorbell:
    """Rings nowhere."""

    def ring_soon(self, partition: Partition) -> None:
        return

    def ring(self, partition: Partition) -> None:
        return
