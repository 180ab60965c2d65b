"""The contract of a control store: queues' records, subscriptions, tokens, quotas, shares, suppressions
and pools.

The rules about time, durability and cancelling are those of `storage.base`. Nothing here reaches into a
message store: `storage.planes` brings the heads of queues in line with the records.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

import msgspec

from zaqar_notify.findings import Finding
from zaqar_notify.models import TOPIC_MARK, JsonObject, Queue, QueueRef, Subscription
from zaqar_notify.storage.catalogue import Catalogue
from zaqar_notify.storage.pools import Pools
from zaqar_notify.storage.quotas import QuotaRecords
from zaqar_notify.storage.rekeying import Encrypted
from zaqar_notify.storage.shares import Shares
from zaqar_notify.storage.suppressions import Suppressions
from zaqar_notify.storage.tokens import Tokens
from zaqar_notify.storage.values import EPOCH

DELETED = EPOCH
"""Expiry of a subscription that was deleted, and is not removed yet."""


class QueueRecord(msgspec.Struct, frozen=True):
    """A queue's record; every change raises `revision`."""

    queue: Queue
    revision: int


class SubscriptionOver(Exception):
    """A write met an expired subscription of the subscriber. It has to be removed first."""

    def __init__(self, subscription: Subscription) -> None:
        super().__init__(subscription.id)
        self.subscription = subscription


def unless_over(subscription: Subscription, now: datetime) -> Subscription:
    """The subscription, if it lives at `now`.

    Raises:
        SubscriptionOver: It is over, and was not removed yet.
    """
    if subscription.expires_at <= now:
        raise SubscriptionOver(subscription)
    return subscription


Names: TypeAlias = tuple[str, str]
"""The names between these two, both excluded."""

_BEHIND_TOPICS = chr(ord(TOPIC_MARK) + 1)
ALL_NAMES: Names = ("", _BEHIND_TOPICS)


def names_after(marker: str | None, *, topics: bool) -> Names:
    """The names of queues behind one, or of topics."""
    first, end = (TOPIC_MARK, _BEHIND_TOPICS) if topics else ("", TOPIC_MARK)
    return marker or first, end


class QueueRecords(ABC):
    """Records of clients' queues. Internal queues have none."""

    @abstractmethod
    async def get(self, ref: QueueRef) -> QueueRecord | None:
        """The record, or None when the queue was never created or has been deleted."""

    @abstractmethod
    async def create(
        self, ref: QueueRef, *, metadata: JsonObject, now: datetime
    ) -> QueueRecord | None:
        """Create the record with revision 1; None when there is one, which keeps its metadata."""

    @abstractmethod
    async def update(
        self, ref: QueueRef, change: Callable[[JsonObject], JsonObject]
    ) -> QueueRecord:
        """Replace the metadata by `change(metadata)`, atomically; the record is *unapplied* from then on.

        `change` is pure; it may be called again when another writer came between. An error that
        it raises ends the update with nothing stored.

        Raises:
            QueueDoesNotExist: The queue was never created.
        """

    @abstractmethod
    async def applied(self, ref: QueueRef, *, revision: int) -> None:
        """The head is of this revision: the record is unapplied no longer, unless it changed since."""

    @abstractmethod
    async def unapplied(self, *, limit: int) -> Sequence[QueueRecord]:
        """Up to `limit` records that are unapplied."""

    @abstractmethod
    async def raise_revision(self, ref: QueueRef, *, above: int) -> QueueRecord | None:
        """Let the record have a revision above this one; None when there is no record."""

    @abstractmethod
    async def remove(self, ref: QueueRef, *, revision: int) -> bool:
        """Remove the record if it has this revision; whether it had."""

    @abstractmethod
    async def list(
        self,
        project: str,
        *,
        marker: str | None,
        limit: int,
        name_contains: str = "",
        metadata_equals: JsonObject | None = None,
        topics: bool = False,
    ) -> list[Queue]:
        """Queues of the project by name, bytewise ascending, after the name `marker`; or its topics.

        Args:
            name_contains: A literal, case-sensitive part of the name.
            metadata_equals: Top-level keys with the values they must have; all must match. A value
                that is a list stands for any one of its elements. A bool equals no number.
        """

    @abstractmethod
    async def count(
        self, project: str, *, name_contains: str = "", metadata_equals: JsonObject | None = None
    ) -> int:
        """How many queues `list` would give without marker and limit."""

    @abstractmethod
    async def count_all(self, project: str) -> int:
        """How many queues and topics the project has."""


class SubscriptionPlace(NamedTuple):
    """The name of a subscription's queue, and its id."""

    queue: str
    id: str


class Subscriptions(ABC):
    """Subscriptions; unique by queue and subscriber.

    One that has expired is *over*: as good as absent to all methods but `over` and `remove`.
    """

    @abstractmethod
    async def create(
        self,
        subscription: Subscription,
        *,
        renew: Callable[[Subscription], Subscription],
        now: datetime,
    ) -> Subscription:
        """Store it and return what is stored.

        When a subscription with the same subscriber lives on the queue, that one is replaced by
        `renew(that one)`, atomically. An error from `renew` is raised, and nothing is stored. The
        caller decides, in `renew`, how a repeated subscription changes; a driver adds nothing to it.

        Raises:
            SubscriptionOver: One of the same subscriber is over, and was not removed yet.
            SubscriptionLocked: A subscription of the queue can't be decrypted, and may be of the same subscriber.
        """

    @abstractmethod
    async def get(
        self, ref: QueueRef, subscription_id: str, *, now: datetime
    ) -> Subscription | None:
        """The subscription; None when there is none or it is over."""

    @abstractmethod
    async def list(
        self, ref: QueueRef, *, marker: str | None, limit: int, now: datetime
    ) -> list[Subscription]:
        """In order of id, after the id `marker`, which need not exist.

        Ids come from `clock.new_ordered_id`, so this is the order of creation. A list is short only
        when there are no more.
        """

    @abstractmethod
    async def of_subscriber(
        self, ref: QueueRef, subscriber: str, *, now: datetime
    ) -> Subscription | None:
        """The queue's subscription of this subscriber; None when there is none or it is over."""

    @abstractmethod
    async def count(self, project: str, queue: str | None = None, *, now: datetime) -> int:
        """How many of the project's subscriptions live, on all of its queues or on one."""

    @abstractmethod
    async def ids(
        self, project: str, *, after: SubscriptionPlace | None, limit: int
    ) -> Sequence[SubscriptionPlace]:
        """The project's subscriptions, those that are over too, in order of queue and id."""

    @abstractmethod
    async def update(
        self,
        ref: QueueRef,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        now: datetime,
    ) -> Subscription:
        """Replace the subscription by `change(subscription)`, atomically, and return it.

        Raises:
            SubscriptionDoesNotExist: There is none, or it is over.
            SubscriptionExists: The new subscriber has another subscription on the queue.
            SubscriptionOver: It had one, which was not removed yet.
        """

    @abstractmethod
    async def longest(self, ref: QueueRef) -> datetime | None:
        """The latest instant at which a subscription of the queue expires; None when all were ended."""

    @abstractmethod
    async def end(self, ref: QueueRef, subscription_id: str | None = None) -> None:
        """Let the subscription, or all of the queue, be over: they expire at `DELETED`."""

    @abstractmethod
    async def over(
        self, *, now: datetime, limit: int, ref: QueueRef | None = None
    ) -> Sequence[Subscription]:
        """Up to `limit` subscriptions that are over, of one queue or of all."""

    @abstractmethod
    async def remove(self, gone: Sequence[Subscription]) -> None:
        """Remove those that are still over."""


class ControlStore(ABC):
    """A control store that is open."""

    records: QueueRecords
    subscriptions: Subscriptions
    tokens: Tokens
    quotas: QuotaRecords
    shares: Shares
    suppressions: Suppressions
    pools: Pools
    catalogue: Catalogue
    encrypted: Sequence[Encrypted]
    """Of the subscriptions and pools, those that are encrypted."""

    @abstractmethod
    async def ping(self) -> None:
        """Ask the store for an answer.

        Raises:
            StorageUnavailable: It gave none.
        """

    async def diagnose(self) -> list[Finding]:
        """As `MessageStore.diagnose`."""
        return []

    @abstractmethod
    async def close(self) -> None:
        """Finish the writes under way, then let go of the store. Idempotent."""
