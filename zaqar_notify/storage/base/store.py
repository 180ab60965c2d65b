"""A message store: its parts, and its life."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from zaqar_notify.clock import Clock, SystemClock
from zaqar_notify.findings import Finding
from zaqar_notify.models import QueueStats
from zaqar_notify.storage.base.claims import Claims
from zaqar_notify.storage.base.heads import Heads
from zaqar_notify.storage.base.messages import Messages
from zaqar_notify.storage.base.transfer import Transfer
from zaqar_notify.storage.control import ControlStore
from zaqar_notify.storage.rekeying import Encrypted

COUNTED_TOGETHER = 500


class MessageStore(ABC):
    """A message store that is open."""

    heads: Heads
    messages: Messages
    claims: Claims
    encrypted: Encrypted
    """Of the messages, those that are encrypted."""

    transfer: Transfer | None = None
    """Moves whole queues from and to other stores, if the driver can."""

    control: ControlStore | None = None
    """The control store in the same database, if the driver has one."""

    clock: Clock = SystemClock()
    """The clock of the callers' `now`; watches use it, too, for the ends of delays and claims. A store of
    one process brings its own clock; `store_clock` sets it for a store of several processes."""

    async def read_clock(self) -> datetime | None:
        """The store's own clock, read once between the call and its return.

        Returns:
            None when it has no clock but this host's.

        Raises:
            StorageUnavailable: It gave no answer.
        """
        return None

    async def diagnose(self) -> list[Finding]:
        """Findings for an operator, beyond whether the store answers: versions, promises,
        indexes. Changes nothing; takes seconds at most.

        Raises:
            StorageUnavailable: It gave no answer.
        """
        return []

    async def take_turn(self, duty: str, *, seconds: float, now: datetime) -> bool:
        """Whether the caller gets a periodic duty; it then has the duty for that time.

        Of all processes on the store one is told so at a time. A store that serves a single process
        may leave this out.

        Raises:
            StorageUnavailable: It gave no answer.
        """
        return True

    async def restored(self) -> int:
        """Give out no id that was given out before, and none before a marker, though this is an older
        state of the store: it was put back from a backup.

        A store that sees to that at every start may leave this out.

        Returns:
            How many queues it concerned.

        Raises:
            StorageUnavailable: It gave no answer; some queues may be left.
        """
        return 0

    async def volume(self, *, now: datetime) -> QueueStats:
        """Count the messages on clients' queues; those that have expired and are not swept yet may count.

        It asks for each queue, beside other requests: it takes long, and is called seldom. A driver that can
        count all queues together replaces this.

        Raises:
            StorageUnavailable: It gave no answer.
        """
        claimed, free, after = 0, 0, None
        while refs := await self.heads.of_clients(after=after, limit=COUNTED_TOGETHER):
            for ref in refs:
                stats = await self.messages.stats(ref, now=now)
                claimed, free = claimed + stats.claimed, free + stats.free
            after = refs[-1]
        return QueueStats(claimed, free)

    @abstractmethod
    async def identity(self) -> str:
        """A text that no other store has: by it two URIs are known to name one store. It came with the store's
        first preparation, and stays.

        Raises:
            StorageUnavailable: It gave no answer.
        """

    @abstractmethod
    async def ping(self) -> None:
        """Ask the store for an answer.

        Raises:
            StorageUnavailable: It gave none.
        """

    @abstractmethod
    async def prove(self) -> None:
        """Make a small write that no reader sees, and wait until it is acknowledged as a post would be.

        Raises:
            StorageUnavailable: It was not.
        """

    @abstractmethod
    async def sweep(self, *, now: datetime, limit: int) -> int:
        """Reclaim the space of up to `limit` expired rows of each kind.

        Returns:
            How many were removed; fewer than `limit` when there is nothing left to do.
        """

    @abstractmethod
    def stop_waiting(self) -> None:
        """Wake every watch for good: the process is about to stop."""

    @abstractmethod
    async def close(self) -> None:
        """Finish the writes under way, then let go of the store. Idempotent."""
