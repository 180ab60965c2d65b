"""The contract of a store of addresses that get nothing more from a project; a part of the control store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

import msgspec


class Suppression(msgspec.Struct, frozen=True):
    """An address that gets nothing more from a project, because its owner unsubscribed.

    `id` is a digest of the address, which itself is not kept; `subscriber` has its scheme and its domain. The owner
    unsubscribed by a link of the subscription.
    """

    id: str
    subscriber: str
    queue: str
    subscription_id: str
    suppressed_at: datetime


class Suppressions(ABC):
    """Suppressed addresses by project and id. They outlive subscriptions and queues."""

    @abstractmethod
    async def add(self, project: str, suppression: Suppression) -> None:
        """Store it; it is on disk when this returns. One with the same id stays as it is."""

    @abstractmethod
    async def get(self, project: str, suppression_id: str) -> Suppression | None:
        """The suppression, as every process sees it from the end of `add` to that of `remove`."""

    @abstractmethod
    async def list(self, project: str, *, marker: str | None, limit: int) -> list[Suppression]:
        """In order of id, after the id `marker`, which need not exist."""

    @abstractmethod
    async def remove(self, project: str, suppression_id: str) -> None:
        """Remove it. No error if absent."""
