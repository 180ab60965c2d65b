"""The steps of a move.

    copy         while the queue is in use; pages, then changes, until few are left
    switch       the queue stands still: the rest is copied, it is let be at the target, and its entry of the
                 catalogue is changed. That is the one write that moves the queue
    remove       from the former store

Each step may be broken off and is begun anew by the next process. Until the switch the move may be given up; what
was written is removed then. A process that slept finds another attempt let in the catalogue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from zaqar_notify.clock import new_id
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import ChangesLost
from zaqar_notify.storage.internal import queues_of_subscription
from zaqar_notify.storage.moving import copying, journal
from zaqar_notify.storage.moving.copying import Stores
from zaqar_notify.storage.moving.gates import NotStill
from zaqar_notify.storage.moving.records import Copied, Move, Progress, State
from zaqar_notify.storage.planes import Storage

NOTED_EVERY_SECONDS = 1.0
"""How often it is noted how far a copy is, and looked whether the move is cancelled."""
FEW = 200
"""So few changes are copied while the queue stands still."""
COPIED_WITHIN_SECONDS = 0.4
"""A queue that stands still is let be at the target within this time, or not in this attempt."""
STILL_AT_MOST_SECONDS = 0.8
"""For so long a queue stands still."""
NEXT_ATTEMPT_SECONDS = 1.0
"""After an attempt that took too long; it grows, up to LONGEST_PAUSE_SECONDS."""
LONGEST_PAUSE_SECONDS = 30.0
SUBSCRIPTIONS_AT_ONCE = 100
PARTS_AT_ONCE = 16
"""Queues of a client's queue and its subscriptions that are brought at the same time."""
DECIDE_AGAIN_SECONDS = 0.1
KNOWN_AFTER = timedelta(seconds=15)
"""After the registration of a pool each process knows that there are pools, or has joined the default one."""

logger = logging.getLogger(__name__)


class GivenUp(Exception):
    """The move can't be made, or is to be cancelled; the sentence says why."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Mover:
    """Carries out one move, from wherever it stands."""

    def __init__(
        self,
        storage: Storage,
        move: Move,
        progress: Progress,
        *,
        now: Callable[[], datetime],
        is_ours: Callable[[], bool],
    ) -> None:
        """`is_ours`: whether no other process can have begun with the move by now."""
        self.progress = progress
        self._control = storage.control
        self._pools = storage.pools
        self._open_pools = storage.open_pools
        self._has_pool = storage.open_pools.has
        self._journal = storage.store
        self._find = storage.places.find
        self._gates = storage.gates
        self._move = move
        self._ref = move.ref
        self._now = now
        self._is_ours = is_ours
        self._noted_at = 0.0
        self._at_once = asyncio.Semaphore(PARTS_AT_ONCE)

    async def run(self) -> None:
        """Move the queue; `progress` says how it ended.

        Raises:
            StorageUnavailable: A store gave no answer; the move goes on later.
        """
        try:
            await self._move_it()
        except GivenUp as given_up:
            if self.progress.parts:
                await self._withdraw()
                await self._take_back()
            self.progress.state, self.progress.reason = given_up.state, str(given_up)

    async def _move_it(self) -> None:
        pause = NEXT_ATTEMPT_SECONDS
        while (pool := await self._pool()) != self._move.target:
            if self.progress.source != pool:
                self.progress.source = pool
            await self._note()
            await self._withdraw()
            try:
                await self._copy()
                await self._switch()
            except ChangesLost:
                await self._begin_round()
            except NotStill:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        await self._remove()
        self.progress.state = State.DONE

    async def _pool(self) -> str:
        """The pool that has the queue.

        Raises:
            GivenUp: There is no such queue.
        """
        pool = (await self._find(self._ref)).pool
        if pool != self._move.target and await self._control.records.get(self._ref) is None:
            raise GivenUp(State.FAILED, "There is no such queue")
        if not self._has_pool(self._move.target):
            raise GivenUp(State.FAILED, f"There is no pool {self._move.target}")
        self._check_known()
        return pool

    def _check_known(self) -> None:
        """Raise StorageUnavailable while some processes may not know yet that there are pools."""
        registered = self._open_pools.registered.pools.values()
        since = min((pool.registered_at for pool in registered), default=self._now())
        if self._open_pools.is_shared and self._now() - since < KNOWN_AFTER:
            raise StorageUnavailable(
                "The pool was registered just now: moves begin in some seconds"
            )

    @property
    def _stores(self) -> Stores:
        source = self._pools[self.progress.source].transfer
        target = self._pools[self._move.target].transfer
        if source is None or target is None:
            which = self.progress.source if source is None else self._move.target
            raise GivenUp(State.FAILED, f"Queues can't move to or from the store of pool {which}")
        return Stores(source, target)

    # Copying

    async def _copy(self) -> None:
        """Copy what there is, until few things change meanwhile."""
        self.progress.state = State.COPYING
        if not self.progress.parts:
            messages = self._pools[self.progress.source].messages
            self.progress.copied = 0
            self.progress.total = (await messages.stats(self._ref, now=self._now())).total
        known = {part.ref for part in self.progress.parts}
        for ref in await self._refs():
            if ref not in known:
                begun = await copying.begin(self._stores, self._name, ref)
                if begun is not None:
                    self.progress.parts.append(begun)
                    await self._note()
        for part in self.progress.parts:
            await copying.copy(self._stores, self._name, part, self._tell)
        while await self._catch_up() > FEW:
            await self._tell(0)

    async def _catch_up(self) -> int:
        """Copy what has changed in all parts; the number of things.

        Raises:
            ChangesLost: The queue must be copied anew.
        """
        return sum(await asyncio.gather(*map(self._catch_up_part, self.progress.parts.copy())))

    async def _catch_up_part(self, part: Copied) -> int:
        try:
            async with self._at_once:
                return await copying.catch_up(self._stores, self._name, part)
        except ChangesLost:
            if part.ref == self._ref:
                raise
            # The subscription is gone, or its queue is another one.
            await self._stores.target.discard(self._name, part.ref)
            self.progress.parts.remove(part)
            return 0

    async def _tell(self, count: int) -> None:
        self.progress.copied += count
        if time.monotonic() - self._noted_at >= NOTED_EVERY_SECONDS:
            await self._note()

    async def _save(self) -> None:
        """Note how far the move is.

        Raises:
            StorageUnavailable: Another process may have begun with it.
        """
        self._check_ours()
        await journal.note(self._journal, self._move, self.progress, now=self._now())
        self._noted_at = time.monotonic()

    async def _note(self) -> None:
        """As `_save`, and look whether to go on.

        Raises:
            GivenUp: The move is to be cancelled.
        """
        await self._save()
        _, is_cancelled = await journal.progress_of(self._journal, self._move, now=self._now())
        if is_cancelled and self.progress.state is not State.REMOVING:
            raise GivenUp(State.CANCELLED, "It was cancelled")

    def _check_ours(self) -> None:
        if not self._is_ours():
            raise StorageUnavailable("This process was held up: another one goes on with the move")

    async def _begin_round(self) -> None:
        """Forget all that was copied."""
        if self.progress.parts:
            await self._take_back()
        self.progress.round += 1
        self.progress.parts = []
        await self._note()

    # Switching

    async def _switch(self) -> None:
        """Hold the queue up for a moment, and let it be at the target.

        Raises:
            NotStill: That would take too long.
            ChangesLost: It must be copied anew.
        """
        self.progress.state = State.SWITCHING
        source, attempt = self.progress.source, new_id()
        await self._note()
        await self._gates.announce(self._ref, source)
        await self._catch_up()
        self._check_ours()
        if not await self._control.catalogue.let(self._ref, source, attempt):
            return
        began = time.monotonic()
        try:
            async with asyncio.timeout(STILL_AT_MOST_SECONDS):
                await self._gates.close(self._ref, source, attempt)
                await self._finish(began)
                await self._control.catalogue.move(
                    self._ref, source, self._move.target, attempt=attempt
                )
        except TimeoutError:
            raise NotStill from None
        finally:
            # Also when this task is cancelled: the gate does not stay closed.
            await asyncio.shield(self._decide(source, attempt, began))

    async def _finish(self, began: float) -> None:
        """Copy the rest of all parts, those that came by now too."""
        name, stores = self._name, self._stores
        await self._catch_up()
        refs = await self._refs()
        if time.monotonic() - began > COPIED_WITHIN_SECONDS:
            raise NotStill
        known = {part.ref for part in self.progress.parts}
        new = [await copying.finish_at_once(stores, name, ref) for ref in refs if ref not in known]
        await asyncio.gather(*map(self._finish_part, self.progress.parts))
        if not any(part.ref == self._ref for part in self.progress.parts):
            await self._bring_dropped_head()
        added = [part for part in new if part is not None]
        if added:
            self.progress.parts += added
            await self._save()

    async def _finish_part(self, part: Copied) -> None:
        async with self._at_once:
            await copying.finish(self._stores, self._name, part)

    async def _bring_dropped_head(self) -> None:
        """The queue has no messages, and perhaps never had."""
        head = await self._stores.source.head(self._ref)
        if head is not None:
            await copying.bring_dropped_head(self._stores, self._name, self._ref, head)

    async def _decide(self, source: str, attempt: str, began: float) -> None:
        """Learn whether the queue has moved, let none of this attempt's writes move it later, and open the gates."""
        while True:
            try:
                is_on_source = await self._control.catalogue.let(self._ref, source, "")
                break
            except StorageUnavailable:
                await asyncio.sleep(DECIDE_AGAIN_SECONDS)
        pool = source if is_on_source else self._move.target
        await self._gates.open(self._ref, source, pool, attempt)
        self.progress.held_up_ms.append(round((time.monotonic() - began) * 1000))

    async def _withdraw(self) -> None:
        """Of an attempt that let the queue be at the target and could not switch: remove it there, and begin anew.

        This process makes sure that the move is its own after it has learnt which stay that is. So if it sleeps
        before the removal, another process's stay at the target is another one.
        """
        target, is_any = self._stores.target, False
        for ref in await self._refs():
            head = await target.head(ref)
            self._check_ours()
            if head is not None and head.rules is not None:
                await target.drop(ref, head.life)
                is_any = True
        if is_any:
            await self._begin_round()

    # The end

    async def _remove(self) -> None:
        """The queue is on the target: remove it from the source."""
        self.progress.state = State.REMOVING
        await self._note()
        if not self.progress.source:
            return
        await self._tell_all()
        source = self._stores.source
        for part in self.progress.parts:
            await source.end(part.ref)
            await source.drop(part.ref, part.life)

    async def _tell_all(self) -> None:
        """Every process knows where the queue is, also if the one that moved it ended before it said so."""
        source, again = self.progress.source, new_id()
        await self._gates.open(self._ref, source, self._move.target, again)
        try:
            await self._gates.until_open(source, again)
        except NotStill:
            raise StorageUnavailable("A process does not answer that it knows the move") from None

    async def _take_back(self) -> None:
        """The queue stays at the source: remove what was written to the target."""
        stores, name = self._stores, self._name
        for part in self.progress.parts:
            await stores.source.end(part.ref)
            self._check_ours()
            await stores.target.discard(name, part.ref)

    @property
    def _name(self) -> str:
        return self.progress.name(self._move)

    async def _refs(self) -> Sequence[QueueRef]:
        """The queue, and those of its subscriptions."""
        refs = [self._ref]
        marker: str | None = None
        while True:
            found = await self._control.subscriptions.list(
                self._ref, marker=marker, limit=SUBSCRIPTIONS_AT_ONCE, now=self._now()
            )
            for subscription in found:
                refs += queues_of_subscription(subscription.id)
            if len(found) < SUBSCRIPTIONS_AT_ONCE:
                return refs
            marker = found[-1].id
