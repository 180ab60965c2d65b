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
from collections.abc import Callable
from datetime import datetime, timedelta

from zaqar_notify.clock import new_id
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.base.transfer import ChangesLost
from zaqar_notify.storage.moving import journal
from zaqar_notify.storage.moving.gates import NotStill
from zaqar_notify.storage.moving.parts import Parts
from zaqar_notify.storage.moving.records import GivenUp, Move, Progress, State
from zaqar_notify.storage.planes import Storage

NOTED_EVERY_SECONDS = 1.0
"""How often it is noted how far a copy is, and looked whether the move is cancelled."""
FEW = 200
"""So few changes are copied while the queue stands still."""
COPIED_WITHIN_SECONDS = 0.5
"""A queue that stands still is let be at the target within this time, or not in this attempt."""
STILL_AT_MOST_SECONDS = 0.7
"""For so long a queue stands still; then the gates are opened, which takes two more writes."""
NEXT_ATTEMPT_SECONDS = 1.0
"""After an attempt that took too long; it grows, up to LONGEST_PAUSE_SECONDS."""
LONGEST_PAUSE_SECONDS = 10.0
MOST_LOOKS = 20
"""A queue that changes faster than it is copied is let stand still all the same."""
DECIDE_AGAIN_SECONDS = 0.1
KNOWN_AFTER = timedelta(seconds=60)
"""After the registration of a pool each process knows that there are pools, or has joined the default one."""

logger = logging.getLogger(__name__)


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
        self._journal = storage.store
        self._find = storage.places.find
        self._gates = storage.gates
        self._move = move
        self._ref = move.ref
        self._now = now
        self._is_ours = is_ours
        self._noted_at = 0.0
        self._parts = Parts(storage, move, progress, now=now, check_ours=self._check_ours)

    async def run(self) -> None:
        """Move the queue; `progress` says how it ended.

        Raises:
            StorageUnavailable: A store gave no answer; the move goes on later.
        """
        try:
            await self._move_it()
        except GivenUp as given_up:
            if self.progress.parts:
                await self._parts.withdraw()
                await self._parts.take_back()
            self.progress.state, self.progress.reason = given_up.state, str(given_up)

    async def _move_it(self) -> None:
        pause = NEXT_ATTEMPT_SECONDS
        while (pool := await self._pool()) != self._move.target:
            if self.progress.source != pool:
                self.progress.source = pool
            await self._note()
            if await self._parts.withdraw():
                await self._begin_round()
            try:
                await self._copy()
                await self._switch()
            except ChangesLost:
                await self._begin_round()
            except NotStill as error:
                self.progress.reason = str(error)
                _log_postponed(self._move, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        await self._remove()
        self.progress.state, self.progress.reason = State.DONE, ""

    async def _pool(self) -> str:
        """The pool that has the queue.

        Raises:
            GivenUp: There is no such queue.
        """
        place = await self._find(self._ref)
        # The entry counts: while the gate of this process is closed, its place is that of before.
        pool = await self._control.catalogue.get(self._ref) or place.pool
        if pool != self._move.target and await self._control.records.get(self._ref) is None:
            raise GivenUp(State.FAILED, "There is no such queue")
        # A pool that is to be removed says so before it looks for moves (`zaqar_notify.pools.remove_pool`).
        await self._open_pools.look()
        if not self._open_pools.keeps(self._move.target):
            raise GivenUp(State.FAILED, f"There is no pool {self._move.target}")
        self._check_known()
        return pool

    def _check_known(self) -> None:
        """Raise StorageUnavailable while some processes may not know yet that there are pools."""
        registered = self._open_pools.registered.pools.values()
        since = min((pool.registered_at for pool in registered), default=self._now())
        if self._open_pools.is_shared and self._now() - since < KNOWN_AFTER:
            raise StorageUnavailable(
                "The first pool was registered just now: moves begin within a minute"
            )

    # Copying

    async def _copy(self) -> None:
        """Copy what there is, until few things change meanwhile."""
        self.progress.state = State.COPYING
        if not self.progress.parts:
            messages = self._pools[self.progress.source].messages
            self.progress.copied = 0
            self.progress.total = (await messages.stats(self._ref, now=self._now())).total
        await self._parts.begin()
        await self._note()
        await self._parts.copy(self._tell)
        for _ in range(MOST_LOOKS):
            if await self._parts.catch_up() <= FEW:
                break
            await self._tell(0)

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
            await self._parts.take_back()
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
        await self._parts.catch_up()
        self._check_ours()
        if not await self._control.catalogue.let(self._ref, source, attempt):
            return
        began, has_moved = time.monotonic(), False
        try:
            async with asyncio.timeout(STILL_AT_MOST_SECONDS):
                await self._gates.close(self._ref, source, attempt)
                known = len(self.progress.parts)
                heads = await self._parts.copy_rest()
                if time.monotonic() - began > COPIED_WITHIN_SECONDS:
                    raise NotStill("The rest took too long to copy")
                if len(self.progress.parts) > known:
                    await self._save()  # The next process must remove these, too.
                await self._parts.activate(heads)
                has_moved = await self._control.catalogue.move(
                    self._ref, source, self._move.target, attempt=attempt
                )
        except TimeoutError:
            raise NotStill("The stores took too long") from None
        finally:
            # Also when this task is cancelled: the gate does not stay closed.
            pool = self._move.target if has_moved else None
            await asyncio.shield(self._open(source, pool, attempt, began))

    async def _open(self, source: str, pool: str | None, attempt: str, began: float) -> None:
        """Open the gates, once it is known which pool has the queue."""
        pool = pool or await self._decide(source)
        await self._gates.open(self._ref, source, pool, attempt)
        self.progress.held_up_ms.append(round((time.monotonic() - began) * 1000))

    async def _decide(self, source: str) -> str:
        """The pool that has the queue; no write of this attempt moves it later."""
        while True:
            try:
                is_on_source = await self._control.catalogue.let(self._ref, source, "")
            except StorageUnavailable:
                await asyncio.sleep(DECIDE_AGAIN_SECONDS)
            else:
                return source if is_on_source else self._move.target

    # The end

    async def _remove(self) -> None:
        """The queue is on the target: remove it from the source."""
        self.progress.state = State.REMOVING
        await self._note()
        if not self.progress.source:
            return
        await self._tell_all()
        await self._parts.remove()

    async def _tell_all(self) -> None:
        """Every process knows where the queue is, also if the one that moved it ended before it said so."""
        source, again = self.progress.source, new_id()
        await self._gates.open(self._ref, source, self._move.target, again)
        try:
            await self._gates.until_open(source, again)
        except NotStill:
            raise StorageUnavailable("A process does not answer that it knows the move") from None


def _log_postponed(move: Move, error: NotStill) -> None:
    logger.info(
        "A queue that moves did not come to a stand in time, and is tried again",
        extra={
            "action": "move_postponed",
            "project": move.project,
            "queue": move.queue,
            "pool": move.target,
            "error": str(error),
        },
    )
