"""The place of one queue in this process: its pool, the operations under way, and the gate that a move closes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.membership import Membership

LONGEST_WAIT_SECONDS = 10.0
"""An operation waits for a queue that moves: less than a second as a rule, longer while stores give no answer."""


class Follower(Protocol):
    """Waits on the queue's store."""

    def reopen(self) -> None:
        """Go on where the queue is now."""


class Place:
    """Of one queue. As a context it is one operation on the queue, and gives the store to make it on.

    An operation must not enter its queue's place a second time: the gate may be closed meanwhile.
    """

    __slots__ = (
        "_membership",
        "_opened",
        "_quiet",
        "_stores",
        "pool",
        "round",
        "under_way",
        "watches",
    )

    def __init__(
        self, stores: Mapping[str, MessageStore], pool: str, membership: Membership
    ) -> None:
        self.pool = pool
        self.round = 0
        self.under_way = 0
        self.watches: set[Follower] = set()
        self._stores = stores
        self._membership = membership
        self._opened: asyncio.Event | None = None
        """Of a closed gate: set when it is opened."""
        self._quiet: asyncio.Event | None = None

    @property
    def store(self) -> MessageStore:
        return self._stores[self.pool]

    @property
    def is_open(self) -> bool:
        return self._opened is None

    @property
    def is_in_use(self) -> bool:
        return bool(self.under_way or self.watches or self._opened is not None)

    async def __aenter__(self) -> MessageStore:
        return self.enter()

    def enter(self) -> MessageStore:
        """As the context, of an operation that does not wait: the gate is open."""
        store = self._stores[self.pool]
        self.under_way += 1
        return store

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
        if error is None and not self._membership.may_use(self.pool):
            raise StorageUnavailable(
                "This process was held up for long: the queue may be on another pool by now"
            )

    def leave(self) -> None:
        """An operation has ended."""
        self.under_way -= 1
        if self._quiet is not None and not self.under_way:
            self._quiet.set()

    def close(self) -> None:
        """Have operations wait from now on."""
        if self._opened is None:
            self._opened = asyncio.Event()

    async def quiet(self) -> None:
        """Wait until the operations under way have ended."""
        while self.under_way:
            self._quiet = self._quiet or asyncio.Event()
            await self._quiet.wait()
            self._quiet = None

    async def until_open(self) -> None:
        """Wait while the gate is closed.

        Raises:
            StorageUnavailable: It stays so.
        """
        if self._opened is None:
            return
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                await self._opened.wait()
        except TimeoutError:
            raise StorageUnavailable("The queue moves to another pool, which takes long") from None

    def open(self, pool: str) -> None:
        """Let operations go on, on the pool that has the queue now."""
        self.pool = pool
        if self._opened is not None:
            self._opened.set()
            self._opened = None
        for watch in list(self.watches):
            watch.reopen()
