"""Replay jobs: how they are ordered, come back and end. The job that a subscription names by `replay_id`
delivers its parked deliveries; while there is such a job, new deliveries are parked behind them.

Of a paced subscription no other job than the named one delivers anything, and each job passes on to one with a new
name: two workers with the same job, after a crash, can't both be the named one's. A job that *sleeps* until failed
deliveries are due can be replaced when others come before that.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from weakref import WeakValueDictionary

import msgspec

from workers.doorbell import LocalDoorbell
from workers.store import RetryingStore
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import Replay, replay_job
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.pacing import pace_of
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import parked_ref

FIRST_PROBE_SECONDS = 1
LONGEST_PAUSE_SECONDS = 60
"""Between two attempts at a receiver that fails, and between two looks at what waits for it."""

REQUEST_LASTS = timedelta(minutes=1)
"""For so long a replay waits for the request that ordered it, and has not enabled the subscription yet. The
request stores the replay first: a process that dies in between leaves none enabled without its replay."""
LOOKS_FOR_REQUEST = 10
LOOK_SECONDS = 0.05
"""Between the looks of a replay in hand; after them it comes back later."""

ASLEEP = "~"
"""Begins the name of a job that sleeps, in its subscription."""


class ReplayJobs:
    def __init__(
        self,
        store: RetryingStore,
        settings: Settings,
        doorbell: LocalDoorbell,
        *,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._doorbell = doorbell
        self._bells: dict[str, asyncio.Event] = {}
        self._settings = settings
        self._random = random
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def order(
        self,
        subscription: Subscription,
        *,
        delay: int = 0,
        replay_id: str = "",
        failures: int = 0,
        failed_at: datetime | None = None,
        resumed_at: datetime | None = None,
        ready_at: datetime | None = None,
        replaces: str | None = None,
    ) -> None:
        """Have its deliveries that are parked and held delivered, `delay` seconds from now."""
        ref, job = replay_job(
            subscription,
            self._settings,
            delay=delay,
            replay_id=replay_id,
            failures=failures,
            failed_at=failed_at,
            resumed_at=resumed_at,
            ready_at=ready_at,
            replaces=replaces,
        )
        queue = subscription.queue
        await self._store.post(self._store.at(queue), ref, [job], project=queue.project)
        if not delay:
            # This worker takes it at once: a watch of another one may see it a little later.
            self._doorbell.ring(self._store.partition_of(queue, self._settings))

    async def ensure(self, subscription: Subscription) -> None:
        """Order a replay of its deliveries that are parked, unless there is one.

        It is stored before the subscription names it: of two processes that come at once, the replay
        that is not named ends by itself. One that is under way in this process looks at once.
        """
        if (bell := self._bells.get(subscription.id)) is not None:
            bell.set()
        if not _needs_a_job(subscription):
            return
        lock = self._locks.setdefault(subscription.id, asyncio.Lock())
        async with lock:
            current = await self._store.subscription(subscription.queue, subscription.id)
            if current is None or not _needs_a_job(current):
                return
            replay_id = new_id()
            delay = FIRST_PROBE_SECONDS if pace_of(current.options) is None else 0
            former = current.replay_id
            await self.order(current, delay=delay, replay_id=replay_id, replaces=former)
            await self._rename(current, former, replay_id)

    @contextmanager
    def bell_of(self, subscription_id: str) -> Iterator[asyncio.Event]:
        """Is rung when something more is parked for the subscription by this process."""
        bell = self._bells[subscription_id] = asyncio.Event()
        try:
            yield bell
        finally:
            if self._bells.get(subscription_id) is bell:
                del self._bells[subscription_id]

    async def take_on(self, job: Replay) -> Subscription | None:
        """The paced subscription, if this job is the only one that may deliver for it from now on."""
        subscription = await self.current(job)
        if subscription is None:
            return None
        if not job.id:
            # Ordered by the request that enabled it; there may be a named one.
            await self.ensure(subscription)
            return None
        if subscription.replay_id == job.id:
            return subscription
        after = await self._rename(subscription, subscription.replay_id, job.id)
        return after if after is not None and after.replay_id == job.id else None

    async def pass_on(
        self,
        job: Replay,
        subscription: Subscription,
        *,
        delay: int,
        is_asleep: bool = False,
        failures: int = 0,
        failed_at: datetime | None = None,
        ready_at: datetime | None = None,
    ) -> None:
        """Leave the rest of a paced subscription's deliveries to a new job that is due later.

        The new job may begin before the subscription names it: it knows which name it replaces.
        """
        replay_id = new_id()
        await self.order(
            subscription,
            delay=delay,
            replay_id=replay_id,
            failures=failures,
            failed_at=failed_at,
            ready_at=ready_at,
            replaces=job.id,
        )
        name = f"{ASLEEP}{replay_id}" if is_asleep else replay_id
        await self._rename(subscription, job.id, name)

    async def _rename(
        self, subscription: Subscription, former: str | None, name: str | None
    ) -> Subscription | None:
        """Have the subscription name this job, if it still names the former one."""

        def renamed(current: Subscription) -> Subscription:
            if current.replay_id != former:
                return current
            return msgspec.structs.replace(current, replay_id=name)

        return await self._store.update_subscription(subscription, renamed)

    async def current(self, job: Replay) -> Subscription | None:
        """The subscription, if this replay is to go on with it."""
        subscription = await self._read(job)
        if subscription is None:
            return None
        names = (None, job.id, ASLEEP + job.id, job.replaces)
        is_surplus = job.id and subscription.replay_id not in names
        if is_surplus:
            return None
        if subscription.disabled_at is not None:
            if self._is_about_to_be_enabled(job, subscription):
                await self._wait_for_request(job, subscription)
            # The request that enables it orders a replay.
            elif subscription.replay_id is not None:
                await self._store.update_subscription(subscription, _unnamed)
            return None
        return subscription

    async def _read(self, job: Replay) -> Subscription | None:
        """The subscription; the request that ordered the replay mostly enables it in a moment."""
        ref = QueueRef(job.project, job.queue)
        for _ in range(LOOKS_FOR_REQUEST):
            subscription = await self._store.subscription(ref, job.subscription_id)
            if subscription is None or not self._is_about_to_be_enabled(job, subscription):
                break
            await asyncio.sleep(LOOK_SECONDS)
        return subscription

    def _is_about_to_be_enabled(self, job: Replay, subscription: Subscription) -> bool:
        """Whether the request that ordered this replay has not changed the subscription yet, but may still do so."""
        if job.resumed_at is None or subscription.disabled_at is None:
            return False
        is_before = subscription.disabled_at <= job.resumed_at
        return is_before and self._clock.now() < job.resumed_at + REQUEST_LASTS

    async def _wait_for_request(self, job: Replay, subscription: Subscription) -> None:
        await self.order(
            subscription, delay=FIRST_PROBE_SECONDS, replay_id=job.id, resumed_at=job.resumed_at
        )

    async def come_back(
        self,
        job: Replay,
        subscription: Subscription,
        *,
        delay: int,
        failures: int | None = None,
        failed_at: datetime | None = None,
    ) -> None:
        """Leave the rest to a job that is due later; one named by the subscription is there already."""
        if not job.id and subscription.replay_id is not None:
            return
        replay_id = job.id or new_id()
        await self.order(
            subscription,
            delay=delay,
            replay_id=replay_id,
            failures=job.failures if failures is None else failures,
            failed_at=failed_at or job.failed_at,
            resumed_at=job.resumed_at,
        )
        if subscription.replay_id is None:
            await self._store.update_subscription(subscription, partial(_named, replay_id))

    async def is_left_to_others(
        self, own: QueueRef, job: Replay, subscription: Subscription
    ) -> bool:
        """Whether some delivery on the queue is under a lease: another replay is under way, or broke off.
        This one comes back when that has ended."""
        if not await self._store.is_any_on(subscription.queue, own):
            return False
        await self.come_back(job, subscription, delay=self._settings.delivery_lease_seconds)
        return True

    def spread(self, seconds: int) -> int:
        """A half of the seconds or more, by chance: replays that began together come back one by one."""
        return math.ceil(seconds * (1 + self._random()) / 2)

    def not_before(self, seconds: float) -> int:
        """So many seconds, up to the longest pause, and up to a quarter more by chance."""
        return math.ceil(min(seconds, LONGEST_PAUSE_SECONDS) * (1 + self._random() / 4))

    async def end(self, job: Replay) -> None:
        """Nothing waits any more: deliveries go the usual way again."""
        subscription = await self.current(job)
        if subscription is None or subscription.replay_id is None:
            return
        await self._rename(subscription, subscription.replay_id, None)
        # Another worker that parked something before it saw that expects it to be fetched.
        if await self._store.is_any_on(subscription.queue, parked_ref(subscription.id)):
            await self.ensure(msgspec.structs.replace(subscription, replay_id=None))


def _needs_a_job(subscription: Subscription) -> bool:
    """Whether no job fetches what is parked for it now. The request that enables a disabled one orders one."""
    name = subscription.replay_id
    return subscription.disabled_at is None and (name is None or name.startswith(ASLEEP))


def _named(replay_id: str, subscription: Subscription) -> Subscription:
    return msgspec.structs.replace(subscription, replay_id=subscription.replay_id or replay_id)


def _unnamed(subscription: Subscription) -> Subscription:
    return msgspec.structs.replace(subscription, replay_id=None)
