"""The place of each client's queue in this process: the pool that has it, and the operations on it that are under way.

A queue may move to another pool. A move freezes it for a moment: operations begin to wait at the gate of its
place, those under way end, and then all go on where the queue is now.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType

from zaqar_notify.errors import NoPoolFits, StorageUnavailable
from zaqar_notify.models import INTERNAL_PROJECT, FlavorRef, QueueRef
from zaqar_notify.storage.base import MessageStore, Watch
from zaqar_notify.storage.control import ControlStore
from zaqar_notify.storage.following import FollowingWatch
from zaqar_notify.storage.internal import DEFAULT_POOL
from zaqar_notify.storage.membership import Membership
from zaqar_notify.storage.open_pools import OpenPools
from zaqar_notify.storage.place import Place

REMEMBERED = 65_536
"""A process remembers the places of so many queues, those used last, beside those in use."""


_DISTRUSTED = -1
"""The round of a place that is used only after it was read again."""


class _Search:
    """An operation on a queue of which this process does not know where it is, or that it may not use yet."""

    def __init__(self, places: Places, ref: QueueRef) -> None:
        self._places = places
        self._ref = ref

    async def __aenter__(self) -> MessageStore:
        self._place = await self._places.usable(self._ref)
        return self._place.enter()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._place.__aexit__(kind, error, traceback)


class Places:
    """The places of all clients' queues, as this process knows them.

    A remembered place is read again after some hours, which is sooner than the catalogue forgets a queue; while the
    control store is away, it is believed.
    """

    def __init__(self, control: ControlStore, pools: OpenPools, membership: Membership) -> None:
        self._control = control
        self._membership = membership
        self._pools = pools
        self._stores = pools.stores
        self._known: OrderedDict[QueueRef, Place] = OrderedDict()
        self._watches_of_none: dict[QueueRef, set[FollowingWatch]] = {}
        self._round = 0
        """Places of an earlier round are to be read again."""
        self._moves = 0
        """How often a queue was frozen or thawed."""
        self.is_stopped = False
        pools.on_doubt = self.read_again

    def at(self, ref: QueueRef) -> AbstractAsyncContextManager[MessageStore]:
        """An operation on a client's queue, or on what is owed to its subscriptions: `async with` gives the message
        store that has them, and may wait a moment while the queue moves."""
        place = self.known(ref)
        if place is None and (not self._pools.is_any or ref.project == INTERNAL_PROJECT):
            place = self._remember(ref, DEFAULT_POOL)
        if place is not None and place.is_open and self._membership.may_use(place.pool):
            return place
        return _Search(self, ref)

    async def usable(self, ref: QueueRef) -> Place:
        """The queue's place, once its gate is open and this process has the right to use its pool.

        Raises:
            StorageUnavailable: A store gave no answer, or the queue moves for long.
        """
        while True:
            place = self.known(ref) or await self.find(ref)
            if not place.is_open:
                await place.until_open()
            elif not self._membership.may_use(place.pool):
                await self._membership.join(place.pool)
            else:
                return place

    def known(self, ref: QueueRef) -> Place | None:
        """The queue's place, if it need not be searched for."""
        place = self._known.get(ref)
        if place is None or place.round != self._round:
            return None
        self._known.move_to_end(ref)
        return place

    def pool_of(self, ref: QueueRef) -> str:
        """As far as it is known: the queue's pool."""
        place = self._known.get(ref)
        return DEFAULT_POOL if place is None else place.pool

    def watch(
        self, ref: QueueRef, *, exclusive: bool = False, internal: QueueRef | None = None
    ) -> Watch:
        """As `Messages.watch` of the store that has the queue, wherever it moves; a move wakes it.

        Args:
            internal: Watch this queue of one of its subscriptions instead, which is on the same store.
        """
        place = self._known.get(ref)
        if place is None and not self._pools.is_any:
            place = self._remember(ref, DEFAULT_POOL)
        watch = FollowingWatch(self, ref, place, internal or ref, exclusive=exclusive)
        if place is None:
            self._watches_of_none.setdefault(ref, set()).add(watch)
        return watch

    async def find(self, ref: QueueRef) -> Place:
        """The queue's place; of a queue that there is not, one on the default pool that is not remembered.

        Raises:
            StorageUnavailable: The control store gave no answer, and the place was never known.
        """
        while True:
            moves = self._moves
            pool = await self._read(ref)
            if moves != self._moves:
                continue  # This queue may have moved meanwhile.
            return self._nowhere() if pool is None else self._remember(ref, pool)

    def _nowhere(self) -> Place:
        """The place of a queue that there is not."""
        return Place(self._stores, DEFAULT_POOL, self._membership)

    async def place(self, ref: QueueRef, *, flavor: FlavorRef | None = None, now: datetime) -> None:
        """Choose a pool for the queue, unless it has one. Its record is made after this.

        Raises:
            StorageUnavailable: The control store gave no answer, or the pools may have changed, or none takes it.
        """
        self._pools.check_fresh()
        if not self._pools.is_any:
            self._remember(ref, DEFAULT_POOL)
            return
        moves, catalogue = self._moves, self._control.catalogue
        pool = await self._read(ref) or await self._choose(flavor, now)
        stored = await catalogue.place(ref, pool, now=now)
        if not self._pools.has(stored) and await catalogue.move(ref, stored, pool):
            stored = pool  # Its pool was removed when there was no such queue.
        if moves == self._moves:
            self._remember(ref, stored)

    async def _choose(self, flavor: FlavorRef | None, now: datetime) -> str:
        try:
            return self._pools.choose(flavor, now=now)
        except NoPoolFits:
            await self._pools.look()  # The flavor may be new.
            return self._pools.choose(flavor, now=now)

    async def confirm(self, ref: QueueRef) -> None:
        """After the record of a new queue was made: its pool is still registered, and not about to be removed.

        A removal first says that the pool is leaving, and then looks for records. So it finds this one, or this one
        finds the removal.

        Raises:
            StorageUnavailable: It is not, or the control store gave no answer.
        """
        pool = self.pool_of(ref)
        if pool != DEFAULT_POOL:
            await self._pools.look()
        self._pools.check_fresh()
        if not self._pools.keeps(pool):
            raise StorageUnavailable(f"Pool {pool} was removed while it was given a queue")

    async def doubt(self, ref: QueueRef, *, now: datetime) -> None:
        """Before a queue is removed: there may be none from now on."""
        if self._pools.is_any:
            await self._control.catalogue.doubt(ref, now=now)

    def close(self, ref: QueueRef, pool: str) -> Place:
        """Have operations on a queue of this pool wait; `Place.quiet` waits for those under way."""
        self._moves += 1
        place = self._known.get(ref) or self._remember(ref, pool)
        place.close()
        return place

    async def freeze(self, ref: QueueRef, pool: str) -> None:
        """Have operations on a queue of this pool wait, and return when those under way have ended.

        Cancelled, it leaves the queue frozen: `thaw` must follow in any case.
        """
        await self.close(ref, pool).quiet()

    def thaw(self, ref: QueueRef, pool: str) -> None:
        """Let operations go on, on the pool that has the queue now."""
        self._moves += 1
        place = self._known.get(ref)
        if place is not None:
            place.open(pool)

    def read_again(self) -> None:
        """Have each place read from the catalogue before it is used again; if that can't be read, it is believed."""
        self._round += 1

    def distrust(self, pool: str) -> None:
        """Queues that were on this pool may have moved: no place there is believed before it was read again."""
        for place in self._known.values():
            if place.pool == pool:
                place.round = _DISTRUSTED

    def stop_waiting(self) -> None:
        """Wake the watches of queues that there are not, for good."""
        self.is_stopped = True
        for watches in self._watches_of_none.values():
            for watch in watches:
                watch.wake()

    def forget(self, ref: QueueRef, watch: FollowingWatch) -> None:
        """A watch has ended, or has found its queue."""
        watches = self._watches_of_none.get(ref, set())
        watches.discard(watch)
        if not watches:
            self._watches_of_none.pop(ref, None)

    async def _read(self, ref: QueueRef) -> str | None:
        """The queue's pool; None: there is no such queue."""
        try:
            pool = await self._control.catalogue.get(ref)
            if pool is not None and not self._pools.has(pool):
                await self._pools.look()
            if pool is not None and self._pools.has(pool):
                return pool
            # A queue of the time before there were pools has no entry.
            if pool is None and await self._is_on_default(ref):
                now = self._stores.default.clock.now()
                return await self._control.catalogue.place(ref, DEFAULT_POOL, now=now)
        except StorageUnavailable:
            known = self._known.get(ref)
            if known is None or known.round == _DISTRUSTED:
                raise
            return known.pool
        return None

    async def _is_on_default(self, ref: QueueRef) -> bool:
        control, heads = self._control, self._stores.default.heads
        return (
            await control.records.get(ref) is not None
            or await heads.get(ref) is not None
            or await control.subscriptions.longest(ref) is not None
        )

    def _remember(self, ref: QueueRef, pool: str) -> Place:
        place = self._known.get(ref)
        if place is None:
            place = self._known[ref] = Place(self._stores, pool, self._membership)
            self._make_room()
        elif place.is_open and place.pool != pool:
            place.open(pool)
        place.round = self._round
        for watch in list(self._watches_of_none.get(ref, ())):
            watch.wake()
        return place

    def _make_room(self) -> None:
        for _ in range(len(self._known) - REMEMBERED):
            oldest = next(iter(self._known))
            if self._known[oldest].is_in_use:
                self._known.move_to_end(oldest)
            else:
                del self._known[oldest]
