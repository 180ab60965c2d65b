"""The contract of a store of revocations of pre-signed URLs; a part of the control store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from zaqar_notify.models import QueueRef

MOST_RECORDS = 1000
"""Of one project. With the next one, the revocation is of all its queues, and takes the place of these records."""


class Shares(ABC):
    """The generations of queues' pre-signed URLs. A revocation begins a new one, and only URLs of the last one count.

    They outlive the queue: a deletion makes no revoked URL valid again.
    """

    @abstractmethod
    async def generation(self, ref: QueueRef) -> int:
        """The last generation; 0: the queue's URLs were never revoked."""

    @abstractmethod
    async def revoke(self, ref: QueueRef, *, now: datetime) -> None:
        """Begin a generation, which is on disk when this returns.

        It is the millisecond of `now`, or one more than the queue's last generation if that is later. So a store that
        was restored from a backup gives out no generation again.

        A project has `MOST_RECORDS` records at most. If this would be one more, it begins a generation of all queues
        of the project, which is later than all of them had, and the other records are removed.
        """
