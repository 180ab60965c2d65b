"""The contract of a store of revocations of pre-signed URLs; a part of the control store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from zaqar_notify.models import QueueRef


class Shares(ABC):
    """The generations of queues' pre-signed URLs. A revocation begins a new one, and only URLs of the last one count.

    They outlive the queue: a deletion makes no revoked URL valid again.
    """

    @abstractmethod
    async def generation(self, ref: QueueRef) -> int:
        """The last generation; 0: the queue's URLs were never revoked."""

    @abstractmethod
    async def revoke(self, ref: QueueRef, *, now: datetime) -> int:
        """Begin a generation and return it, atomically.

        It is the millisecond of `now`, or one more than the last generation if that is later. So a store that was
        restored from a backup gives out no generation again.
        """
