"""Watches: callers that wait for a queue.

A write of this process wakes its watches at once. It finds writes of other processes by looking: while
there are waiting callers, one read fetches the documents of all their queues, 50 ms after the last
change and then ever less often, down to once a second.

Messages become visible with time, too (at a claim's expiry, a delay's end): a timer wakes at the earliest
such instant. Another process may have brought it forward, so it is asked for again now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.mongodb.blocks import Block
from zaqar_notify.storage.mongodb.queue_states import QueueState
from zaqar_notify.storage.values import from_ms
from zaqar_notify.storage.watching import SOONEST_SECONDS, Watched, Watches

LATEST_SECONDS = 30.0
"""The next instant is read again this often: another process may have brought it forward."""
ASK_SECONDS = 0.5
"""The pause between two such reads of one queue: a busy queue changes a hundred times a second."""
FIRST_LOOK_SECONDS = 0.05
LAST_LOOK_SECONDS = 1.0
LOOKS_GROW_BY = 1.3


class MongoWatches(Watches["_Watched"]):
    """The watches of this process.

    Args:
        look: Reads queues' states; each is handed to `saw`.
        next_due: The millisecond at which the queue's next held message falls due.
        now: The present instant, by the clock that callers go by.
    """

    def __init__(
        self,
        look: Callable[[Iterable[QueueRef]], Awaitable[object]],
        next_due: Callable[[QueueRef], Awaitable[int | None]],
        now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        self._look = look
        self._next_due = next_due
        self._now = now
        self._looking: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def posted(self, ref: QueueRef, block: Block, visible: int) -> None:
        """This process has stored a block, with `visible` messages that can be claimed at once."""
        watched = self._watched.get(ref)
        if watched is None:
            return
        if watched.seen is not None and watched.seen[0] == block.after:
            # No other process posted in between, so a look would find nothing new.
            watched.seen = (block.last + 1, watched.seen[1])
        if visible:
            watched.wake(visible)

    def came(self, ref: QueueRef, visible: int) -> None:
        """This process has stored `visible` messages that can be claimed at once, in no block."""
        watched = self._watched.get(ref)
        if watched is not None and visible:
            watched.wake(visible)

    def released(self, ref: QueueRef, count: int, turns: int) -> None:
        """This process has released `count` messages, which made `turns` the turn of the queue."""
        watched = self._watched.get(ref)
        if watched is None:
            return
        if watched.seen is not None and watched.seen[1] == turns - 1:
            watched.seen = (watched.seen[0], turns)
        watched.wake(count)

    def held(self, ref: QueueRef, until: int) -> None:
        """Messages of the queue are held until that millisecond."""
        watched = self._watched.get(ref)
        if watched is not None and (watched.timer is not None or watched.is_asking):
            self._set_timer(watched, until)

    def saw(self, ref: QueueRef, state: QueueState | None) -> None:
        """Compare a state that was read with the last one; None: the queue has no document."""
        watched = self._watched.get(ref)
        if watched is None:
            return
        present = (0, 0) if state is None else (state.readable_to, state.turns)
        before = watched.seen or present
        # Both only grow; a reading may be older than this process's own writes.
        watched.seen = (max(before[0], present[0]), max(before[1], present[1]))
        if watched.seen == before:
            return
        watched.look_after = FIRST_LOOK_SECONDS
        watched.wake(1)
        if watched.timer is not None and not watched.is_asking:
            # The new messages may be delayed, to an instant that the timer does not know.
            self._ask_for_due(watched)

    def stop(self) -> None:
        super().stop()
        if self._looking is not None:
            self._looking.cancel()

    async def close(self) -> None:
        self.stop()
        tasks = [*self._asking, *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _new(self, ref: QueueRef) -> _Watched:
        return _Watched(ref)

    def _begin(self, watched: _Watched) -> None:
        if (watched.timer is None or watched.was_woken) and not watched.is_asking:
            # A caller that was woken and waits again may have lost to a claim in another process.
            self._ask_for_due(watched)
        watched.look_after = FIRST_LOOK_SECONDS
        watched.look_at = asyncio.get_running_loop().time() + FIRST_LOOK_SECONDS
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_while_waited_for())

    # Writes of other processes

    async def _look_while_waited_for(self) -> None:
        loop = asyncio.get_running_loop()
        looked_at = 0.0
        try:
            while waited_for := [one for one in self._watched.values() if one.is_waited_for]:
                soonest = min(one.look_at for one in waited_for)
                # Never at once after the last look: thousands of queues make a few large reads.
                await asyncio.sleep(max(soonest, looked_at + FIRST_LOOK_SECONDS) - loop.time())
                looked_at = loop.time()
                due = [one for one in waited_for if one.look_at <= looked_at + SOONEST_SECONDS]
                for watched in due:
                    watched.look_after = min(watched.look_after * LOOKS_GROW_BY, LAST_LOOK_SECONDS)
                    watched.look_at = loop.time() + watched.look_after
                try:
                    await self._look([watched.ref for watched in due])
                except StorageUnavailable:
                    # Waiting callers find out when they look themselves; this goes on trying.
                    continue
        finally:
            self._looking = None

    # Messages that become visible with time

    def _ask_for_due(self, watched: _Watched) -> None:
        watched.is_asking = True
        watched.was_woken = False
        task = asyncio.get_running_loop().create_task(self._set_timer_to_due(watched))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _set_timer_to_due(self, watched: _Watched) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(watched.asked_at + ASK_SECONDS - loop.time())
            watched.asked_at = loop.time()
            until = await self._next_due(watched.ref)
        except StorageUnavailable:
            until = None
        finally:
            watched.is_asking = False
        if watched.watches and not self.stopped:
            self._set_timer(watched, until)

    def _set_timer(self, watched: _Watched, until: int | None) -> None:
        """Wake the queue's watches at that instant, unless something is due before."""
        wait = LATEST_SECONDS
        if until is not None:
            wait = (from_ms(until) - self._now()).total_seconds()
        wait = min(max(wait, SOONEST_SECONDS), LATEST_SECONDS)
        loop = asyncio.get_running_loop()
        if watched.timer is not None:
            if watched.timer.when() <= loop.time() + wait:
                return
            watched.timer.cancel()
        is_due = until is not None and wait < LATEST_SECONDS
        watched.timer = loop.call_later(wait, self._due, watched, is_due)

    def _due(self, watched: _Watched, is_due: bool) -> None:
        watched.timer = None
        if is_due:
            watched.wake(1)
        if watched.is_waited_for and not watched.is_asking:
            self._ask_for_due(watched)


class _Watched(Watched):
    def __init__(self, ref: QueueRef) -> None:
        super().__init__(ref)
        self.seen: tuple[int, int] | None = None
        """From the queue's last state: how far the queue could be read, and its turn."""
        self.is_asking = False
        self.asked_at = -ASK_SECONDS
        self.was_woken = False
        self.look_after = FIRST_LOOK_SECONDS
        self.look_at = 0.0

    def wake(self, consumers: int) -> None:
        self.was_woken = True
        super().wake(consumers)
