"""The contract of a Zaqar's stores: what an import reads of them, and the errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from zaqar_notify.errors import StartRefused
from zaqar_notify.models import QueueRef
from zaqar_notify.operations.zaqar.importing.addresses import REDIS, Address
from zaqar_notify.operations.zaqar.importing.found import (
    FoundFlavor,
    FoundMessage,
    FoundPool,
    FoundQueue,
    FoundSubscription,
    Odd,
)
from zaqar_notify.settings import shown

ANSWER_SECONDS = 10
"""For one answer of a store."""


class Store(ABC):
    """One store of Zaqar's. What can't be read is an `Odd`; all methods raise StartRefused where the store can't be
    read at all."""

    address: Address

    @abstractmethod
    async def check(self, *, has_queues: bool, may_be_empty: bool = False) -> None:
        """Refuse a store that is not Zaqar's.

        Args:
            has_queues: It is to have Zaqar's queues; else its subscriptions and messages.
            may_be_empty: A pool may have had no queue yet.

        Raises:
            StartRefused: It gives no answer, refuses the account, or has nothing of Zaqar's.
        """

    @abstractmethod
    def queues(self) -> AsyncIterator[FoundQueue | Odd]:
        """All queues and topics, of a management store."""

    @abstractmethod
    def pools(self) -> AsyncIterator[FoundPool | Odd]:
        """All pools, of a management store."""

    @abstractmethod
    def flavors(self) -> AsyncIterator[FoundFlavor | Odd]:
        """All flavors, of a management store."""

    @abstractmethod
    def catalogue(self) -> AsyncIterator[tuple[QueueRef, str]]:
        """The queues that have a pool, each with its pool's name, of a management store."""

    @abstractmethod
    def subscriptions(self, *, now: datetime) -> AsyncIterator[FoundSubscription | Odd]:
        """All subscriptions that live at `now`, of a message store."""

    @abstractmethod
    def messages(self, ref: QueueRef, *, now: datetime) -> AsyncIterator[FoundMessage]:
        """The messages of a queue in their order, claimed and delayed ones too, of a message store."""

    @abstractmethod
    async def still_there(self, ids: Sequence[str], *, now: datetime) -> int:
        """How many of these messages of one queue live at `now`."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connections."""


def open_store(address: Address) -> Store:
    """The store; nothing is connected yet.

    Raises:
        StartRefused: The URI can't be read.
    """
    # Imported late: only an import needs either.
    if address.kind == REDIS:
        from zaqar_notify.operations.zaqar.importing.redis import RedisStore

        return RedisStore(address)
    from zaqar_notify.operations.zaqar.importing.mongodb import MongoStore

    return MongoStore(address)


def unreadable(address: Address, reason: str) -> StartRefused:
    """The refusal of a store; its password is not shown."""
    return StartRefused(f"Zaqar's store {shown(address.uri)} can't be read: {reason}")
