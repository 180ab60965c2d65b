"""Watches: callers that wait for a queue.

A write of this process wakes its watches at once; those of other processes are published (`listening.py`). Should
a publication be lost, a look finds the change: there is one each second while somebody waits.

Messages become visible with time, too, at a claim's expiry or a delay's end: a timer wakes at the earliest such
instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from redis.asyncio import Redis

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.storage.ending import end
from zaqar_notify.storage.redis.batches import Batches
from zaqar_notify.storage.redis.listening import Listening
from zaqar_notify.storage.values import from_ms, instants_of
from zaqar_notify.storage.watching import SOONEST_SECONDS, Watched, Watches

LOOK_SECONDS = 1.0
LATEST_SECONDS = 3600.0


class RedisWatches(Watches["_Watched"]):
    """The watches of this process.

    Args:
        now: The present instant, by the clock that callers go by.
    """

    def __init__(self, batches: Batches, listener: Redis, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._batches = batches
        self._now = now
        self._by_channel: dict[str, _Watched] = {}
        self._listening = Listening(
            *(listener, batches.sender, batches.keys.of_process(batches.sender)),
            *(self._heard, self._began),
        )
        self._looking: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def came(self, ref: QueueRef, messages: Sequence[NewMessage], now: int) -> None:
        """This process has stored messages at `now`."""
        watched = self._watched.get(ref)
        if watched is None:
            return
        watched.seen = None
        held = [until for message in messages if (until := instants_of(message, now).held_until)]
        if len(held) < len(messages):
            self.visible(ref, len(messages) - len(held))
        if held:
            self.held(ref, min(held))

    def visible(self, ref: QueueRef, count: int) -> None:
        """`count` messages of the queue have become visible."""
        watched = self._watched.get(ref)
        if watched is not None and count:
            watched.seen = None
            watched.wake(count)

    def saw(self, ref: QueueRef, state: Sequence[int]) -> None:
        """A caller has looked at the queue, which was in this state."""
        watched = self._watched.get(ref)
        if watched is None or not state:
            return
        if watched.seen is None:
            watched.seen = (*state,)
        elif any(one < other for one, other in zip(state, watched.seen, strict=True)):
            # The caller looked before a look of ours that it may go by.
            watched.wake(1)

    def held(self, ref: QueueRef, until: int) -> None:
        """Messages of the queue are held until that millisecond."""
        watched = self._watched.get(ref)
        if watched is not None:
            self._set_timer(watched, until)

    def stop(self) -> None:
        super().stop()
        if self._looking is not None:
            self._looking.cancel()

    async def close(self) -> None:
        self.stop()
        await self._listening.close()
        tasks = [*self._asking, *([self._looking] if self._looking is not None else [])]
        await end(*tasks)

    def forget(self, watched: Watched) -> None:
        super().forget(watched)
        if self._watched.get(watched.ref) is None:
            channel = self._batches.keys.queue(watched.ref)[1]
            self._by_channel.pop(channel, None)
            self._listening.leave(channel)

    def _new(self, ref: QueueRef) -> _Watched:
        watched = _Watched(ref)
        channel = self._batches.keys.queue(ref)[1]
        self._by_channel[channel] = watched
        self._listening.want(channel)
        if not self._listening.is_heard(channel):
            self._ask(watched)
        return watched

    def _begin(self, watched: _Watched) -> None:
        if not watched.is_known:
            watched.is_known = True
            self._ask(watched)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_while_waited_for())

    def _heard(self, channel: str, visible: int, until: int) -> None:
        watched = self._by_channel.get(channel)
        if watched is None:
            return
        watched.seen = None
        if visible:
            watched.wake(visible)
        if until:
            self._set_timer(watched, until)

    def _began(self, channel: str, may_have_missed: bool) -> None:
        watched = self._by_channel.get(channel)
        if watched is None:
            return
        if may_have_missed:
            watched.wake(len(watched.watches))
        else:
            self._ask(watched)

    def _ask(self, watched: _Watched) -> None:
        task = asyncio.get_running_loop().create_task(self._look(watched))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _look_while_waited_for(self) -> None:
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                waited_for = [one for one in self._watched.values() if one.is_waited_for]
                if not waited_for:
                    return
                await asyncio.gather(*map(self._look, waited_for))
        finally:
            self._looking = None

    async def _look(self, watched: _Watched) -> None:
        """Read how far the queue is, wake the watches if that has changed, and set the timer."""
        try:
            state, due_at = await self._batches.ask(watched.ref, "look")
        except StorageUnavailable:
            # Waiting callers find out when they look themselves; this goes on trying.
            return
        seen, watched.seen = watched.seen, (*state,)
        if seen is not None and seen != watched.seen:
            watched.wake(1)
        if due_at and not self.stopped and watched.watches:
            self._set_timer(watched, int(due_at))

    def _set_timer(self, watched: _Watched, until: int) -> None:
        """Wake the queue's watches at that instant, unless something is due before."""
        wait = (from_ms(until) - self._now()).total_seconds()
        wait = min(max(wait, SOONEST_SECONDS), LATEST_SECONDS)
        loop = asyncio.get_running_loop()
        if watched.timer is not None:
            if watched.timer.when() <= loop.time() + wait:
                return
            watched.timer.cancel()
        watched.timer = loop.call_later(wait, self._due, watched)

    def _due(self, watched: _Watched) -> None:
        watched.timer = None
        # The woken caller frees the due messages, which wakes a caller for each of the others.
        watched.wake(1)
        if watched.is_waited_for:
            self._ask(watched)


class _Watched(Watched):
    def __init__(self, ref: QueueRef) -> None:
        super().__init__(ref)
        self.seen: tuple[int, ...] | None = None
        """How far the queue was at the last look; None: changes since then have woken somebody."""
        self.is_known = False
        """Whether a look has told when its next message falls due."""
