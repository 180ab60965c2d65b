"""The right of a process to use queues of a pool: moves wait for the processes that have it.

A process that has its stores to itself always has it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class Membership(ABC):
    """Of one process, in all pools."""

    @abstractmethod
    def begin(self) -> None:
        """See to it, until `close`, that the right lasts while the control store is away."""

    @abstractmethod
    def may_use(self, pool: str) -> bool:
        """Whether a move of any queue of the pool would wait for this process now."""

    @abstractmethod
    async def join(self, pool: str) -> None:
        """Gain the right. The places of queues may have to be read again.

        Raises:
            StorageUnavailable: The pool's store gave no answer.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give up the right in all pools."""


class Alone(Membership):
    """Of a process that has its stores to itself."""

    def begin(self) -> None:
        """It lasts."""

    def may_use(self, pool: str) -> bool:
        return True

    async def join(self, pool: str) -> None:
        """It has the right."""

    async def close(self) -> None:
        """It keeps the right."""
