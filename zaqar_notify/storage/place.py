"""The place of one queue in this process: its pool, the operations under way, and the gate that a move closes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from zaqar_notify.storage.base import MessageStore


class Follower(Protocol):
    """Waits on the queue's store."""

    def reopen(self) -> None:
        """Go on where the queue is now."""


class Place:
    """Of one queue. As a context it is one operation on the queue, and gives the store to make it on.

    An operation must not enter its queue's place a second time: the gate may be closed meanwhile.
    """

    __slots__ = ("_opened", "_quiet", "_stores", "pool", "round", "under_way", "watches")

    def __init__(self, stores: Mapping[str, MessageStore], pool: str) -> None:
        self.pool = pool
        self.round = 0
        self.under_way = 0
        self.watches: set[Follower] = set()
        self._stores = stores
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
        while self._opened is not None:
            await self._opened.wait()
        store = self._stores[self.pool]
        self.under_way += 1
        return store

    def enter(self) -> None:
        """As the context, of an operation that does not wait: the gate is open."""
        self.under_way += 1

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """An operation has ended."""
        self.under_way -= 1
        if self._quiet is not None and not self.under_way:
            self._quiet.set()

    async def close(self) -> None:
        """Have operations wait from now on, and return when those under way have ended."""
        if self._opened is None:
            self._opened = asyncio.Event()
        while self.under_way:
            self._quiet = self._quiet or asyncio.Event()
            await self._quiet.wait()
            self._quiet = None

    def open(self, pool: str) -> None:
        """Let operations go on, on the pool that has the queue now."""
        self.pool = pool
        if self._opened is not None:
            self._opened.set()
            self._opened = None
        for watch in list(self.watches):
            watch.reopen()
