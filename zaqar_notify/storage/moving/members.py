"""The part of each process in moves: it says that it uses a pool, and lets queues stand still when a move asks.

A process has a lease on each pool whose queues it uses: it says that it lives, and a move waits for its answer for
as long as that message is there. The lease ends by the process's own clock before the message expires. An operation
that ends without a lease is not acknowledged, since the queue may have moved meanwhile. A process that had no lease
for a moment reads all places, and all notices, anew.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from zaqar_notify.clock import new_id, running_seconds
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.control import ControlStore
from zaqar_notify.storage.ending import end
from zaqar_notify.storage.internal import DEFAULT_POOL, NOTICES_REF
from zaqar_notify.storage.membership import Membership
from zaqar_notify.storage.moving import notices
from zaqar_notify.storage.moving.notices import Kind, Notice
from zaqar_notify.storage.open_pools import OpenPools
from zaqar_notify.storage.place import Place
from zaqar_notify.storage.places import Places

LEASE_SECONDS = 10.0
"""Five seconds less than the message lives that says so: for the time of its write, and for clocks that differ."""
RENEWED_EVERY_SECONDS = 4.0
LOOK_SECONDS = 1.0
"""Between looks for notices when none is announced; a post of this process is seen at once."""
ATTENTIVE_LOOK_SECONDS = 0.02
ATTENTIVE_SECONDS = 5.0
"""For so long after an announcement, notices are looked for that often."""
JOINED_BEFORE_SECONDS = 10.0
"""So long before its list of pools is too old, a process joins the default pool."""
KNOWN_FOR_SECONDS = 5.0
"""So long after that, no queue has moved yet: see `mover.KNOWN_AFTER`."""
HELD_UP_SECONDS = 2.0
"""A process opens a gate by itself after this time: it sees to it that the attempt can't move the queue any more."""
AGAIN_SECONDS = 0.2

logger = logging.getLogger(__name__)


class Members(Membership):
    """Of a process that is not alone on its stores."""

    places: Places
    """Set before the first use: places need a membership, too."""

    def __init__(self, control: ControlStore, pools: OpenPools) -> None:
        self._control = control
        self._pools = pools
        self._members: dict[str, Member] = {}
        self._tending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._tending = asyncio.create_task(self._tend())

    async def _tend(self) -> None:
        """Join the default pool when it can't be seen any more whether there are other pools: moves of its queues
        begin soon after one is registered."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            left = self._pools.without_pools_until - running_seconds()
            if 0 < left < JOINED_BEFORE_SECONDS:
                with suppress(StorageUnavailable):
                    await self.join(DEFAULT_POOL)

    def may_use(self, pool: str) -> bool:
        now = running_seconds()
        member = self._members.get(pool)
        if member is not None and now < member.leased_until:
            return True
        # No queue moves before each process can know that there are pools.
        return pool == DEFAULT_POOL and now < self._pools.without_pools_until

    async def join(self, pool: str) -> None:
        await self.member(pool).join()

    def member(self, pool: str) -> Member:
        """The part of this process in the moves of one pool's queues."""
        member = self._members.get(pool)
        if member is None:
            member = self._members[pool] = Member(pool, self._pools, self._control, self.places)
        return member

    async def close(self) -> None:
        members, self._members = self._members, {}
        if self._tending is not None:
            await end(self._tending)
        await asyncio.gather(*(member.close() for member in members.values()))


class Member:
    """Of one pool."""

    def __init__(self, pool: str, pools: OpenPools, control: ControlStore, places: Places) -> None:
        self.leased_until = 0.0
        self.name = new_id()
        self._pool = pool
        self._pools = pools
        self._stores = pools.stores
        self._control = control
        self._places = places
        self._marker: str | None = None
        self._attentive_until = 0.0
        self._joining = asyncio.Lock()
        self.following: asyncio.Task[None] | None = None
        self._standing: dict[QueueRef, asyncio.Task[None]] = {}
        """Of queues that stand still: the tasks that answer, and open the gates by themselves in the end."""

    @property
    def _store(self) -> MessageStore:
        return self._stores[self._pool]

    @property
    def _has_lapsed(self) -> bool:
        return running_seconds() >= self.leased_until

    async def join(self) -> None:
        async with self._joining:
            if not self._has_lapsed:
                return
            began = running_seconds()
            await notices.live(self._store, self.name)
            await self._read_all()
            if not self._knows_all:
                self._places.distrust(self._pool)
            self.leased_until = began + LEASE_SECONDS
        if self.following is None:
            self.following = asyncio.create_task(self._follow())

    @property
    def _knows_all(self) -> bool:
        """Whether no queue can have left the pool yet: no pool was registered for long enough."""
        known_until = self._pools.without_pools_until + KNOWN_FOR_SECONDS
        return self._pool == DEFAULT_POOL and running_seconds() < known_until

    async def close(self) -> None:
        tasks = [*self._standing.values(), *([self.following] if self.following else [])]
        await end(*tasks)
        self.leased_until = 0.0
        with suppress(StorageUnavailable):
            await notices.live(self._store, self.name, lives=False)

    async def _follow(self) -> None:
        """Renew the lease, and heed notices. A lease that has lapsed is left to the next operation."""
        renew_at = running_seconds() + RENEWED_EVERY_SECONDS
        while True:
            try:
                with self._store.messages.watch(NOTICES_REF) as watch:
                    while True:
                        now = running_seconds()
                        if now >= renew_at:
                            await self._renew(now)
                            renew_at = now + RENEWED_EVERY_SECONDS
                        async with self._joining:
                            await self._look()
                        await watch.changed(timeout_seconds=self._pause())
            except StorageUnavailable:
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception as error:  # Outermost place: without this task the lease lapses.
                facts = {"action": "notices_unreadable", "pool": self._pool}
                logger.error("Notices of moves can't be read", extra=facts, exc_info=error)
                await asyncio.sleep(RENEWED_EVERY_SECONDS)

    def _pause(self) -> float:
        is_attentive = running_seconds() < self._attentive_until
        return ATTENTIVE_LOOK_SECONDS if is_attentive else LOOK_SECONDS

    async def _renew(self, now: float) -> None:
        if self._has_lapsed:
            return
        await notices.live(self._store, self.name)
        if not self._has_lapsed:
            self.leased_until = now + LEASE_SECONDS

    # Notices

    async def _read_all(self) -> None:
        """Heed those notices that are not settled by a later one; the places are read again after this."""
        found, self._marker = await notices.notices(self._store, None)
        last = {notice.ref: notice for notice in found}
        for ref in list(self._standing):
            if ref not in last or last[ref].kind is not Kind.STILL:
                await self._open(ref, self._places.pool_of(ref))
        for notice in last.values():
            if notice.kind is Kind.OPEN:
                await self._answer(notice)
            elif notice.ref not in self._standing:
                await self._heed(notice)

    async def _look(self) -> None:
        if self._has_lapsed:
            return
        found, self._marker = await notices.notices(self._store, self._marker)
        for notice in found:
            await self._heed(notice)

    async def _heed(self, notice: Notice) -> None:
        match notice.kind:
            case Kind.ANNOUNCED:
                self._attentive_until = running_seconds() + ATTENTIVE_SECONDS
                await self._answer(notice)
            case Kind.STILL:
                # Here, not in the task: a process that joins has closed the gate when it has joined.
                place = self._places.close(notice.ref, self._pool)
                await self._stop(notice.ref)
                standing = asyncio.create_task(self._stand_still(notice, place))
                self._standing[notice.ref] = standing
            case Kind.OPEN:
                await self._open(notice.ref, notice.pool)
                await self._answer(notice)

    async def _open(self, ref: QueueRef, pool: str) -> None:
        await self._stop(ref)
        self._places.thaw(ref, pool)

    async def _stop(self, ref: QueueRef) -> None:
        standing = self._standing.pop(ref, None)
        if standing is not None:
            await end(standing)

    async def _answer(self, notice: Notice) -> None:
        await notices.answer(self._store, notice, self.name)

    async def _stand_still(self, notice: Notice, place: Place) -> None:
        """Answer once no operation is under way; if nothing more is heard of the attempt, end it."""
        with suppress(TimeoutError, StorageUnavailable):
            async with asyncio.timeout(HELD_UP_SECONDS):
                await place.quiet()
                await self._answer(notice)
                await asyncio.Event().wait()
        pool = await self._end(notice)
        self._standing.pop(notice.ref, None)
        self._places.thaw(notice.ref, pool)

    async def _end(self, notice: Notice) -> str:
        """The pool that has the queue, and keeps it as far as this attempt goes."""
        catalogue, source = self._control.catalogue, notice.pool
        while True:
            with suppress(StorageUnavailable):
                if await catalogue.let(notice.ref, source, ""):
                    return source
                return await catalogue.get(notice.ref) or source
            await asyncio.sleep(AGAIN_SECONDS)
