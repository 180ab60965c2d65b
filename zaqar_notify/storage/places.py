"""Where this process finds each client's queue: the pool that has it, and the operations on it that are under way.

A queue may move to another pool. A move freezes it for a moment: operations begin to wait at the gate of its
place, those under way end, and then all go on where the queue is now.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import MessageStore, Watch

REMEMBERED = 65_536
"""A process remembers the places of so many queues, those used last, beside those in use."""


class Place:
    """Of one queue. As a context it is one operation on the queue, and gives the store to make it on.

    An operation must not enter its queue's place a second time: the gate may be closed meanwhile.
    """

    __slots__ = ("_opened", "_quiet", "_stores", "pool", "under_way", "watches")

    def __init__(self, stores: Mapping[str, MessageStore], pool: str) -> None:
        self.pool = pool
        self.under_way = 0
        self.watches: set[FollowingWatch] = set()
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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


class Places:
    """The places of all clients' queues, as this process knows them."""

    def __init__(
        self, stores: Mapping[str, MessageStore], placement: Callable[[QueueRef], str]
    ) -> None:
        self._stores = stores
        self._placement = placement
        self._known: OrderedDict[QueueRef, Place] = OrderedDict()

    def at(self, ref: QueueRef) -> Place:
        """An operation on a client's queue, or on what is owed to its subscriptions: `async with` gives the message
        store that has them, and may wait a moment while the queue moves."""
        place = self._known.get(ref)
        if place is None:
            return self._remember(ref, self._placement(ref))
        self._known.move_to_end(ref)
        return place

    def pool_of(self, ref: QueueRef) -> str:
        return self.at(ref).pool

    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        """As `Messages.watch` of the store that has the queue, wherever it moves; a move wakes it."""
        return FollowingWatch(self.at(ref), ref, exclusive=exclusive)

    async def freeze(self, ref: QueueRef, pool: str) -> None:
        """Have operations on a queue of this pool wait, and return when those under way have ended.

        Cancelled, it leaves the queue frozen: `thaw` must follow in any case.
        """
        place = self._known.get(ref) or self._remember(ref, pool)
        await place.close()

    def thaw(self, ref: QueueRef, pool: str) -> None:
        """Let operations go on, on the pool that has the queue now."""
        place = self._known.get(ref)
        if place is not None:
            place.open(pool)

    def _remember(self, ref: QueueRef, pool: str) -> Place:
        place = self._known[ref] = Place(self._stores, pool)
        for _ in range(len(self._known) - REMEMBERED):
            oldest = next(iter(self._known))
            if self._known[oldest].is_in_use:
                self._known.move_to_end(oldest)
            else:
                del self._known[oldest]
        return place


class FollowingWatch(Watch):
    """A watch of a queue on the store that has it."""

    def __init__(self, place: Place, ref: QueueRef, *, exclusive: bool) -> None:
        self._place = place
        self._ref = ref
        self._exclusive = exclusive
        self._present = self._open()
        place.watches.add(self)

    async def changed(self, *, timeout_seconds: float) -> bool:
        return await self._present.changed(timeout_seconds=timeout_seconds)

    def wake(self) -> None:
        self._present.wake()

    def reopen(self) -> None:
        """Go on where the queue is now, after a wake: a message may have come before this looked."""
        former, self._present = self._present, self._open()
        self._present.wake()
        former.wake()
        former.close()

    def close(self) -> None:
        self._place.watches.discard(self)
        self._present.close()

    def _open(self) -> Watch:
        return self._place.store.messages.watch(self._ref, exclusive=self._exclusive)
