"""The delivery engine: a consumer of the service's own queues.

For each partition, those that only other processes know of included, it claims jobs from `outbox` and
deliveries from `retry`, has the attempts made and the deliveries still owed stored, and only then has the
claimed messages deleted. A crash anywhere repeats work and loses none.

Memory is bounded whatever the backlog: from each internal queue at most `delivery_concurrency`
messages are in hand, in all at most `MAX_BYTES_IN_HAND` plus one claim per internal queue (32 posts
of at most `max_messages_post_size`); each byte is there up to three times (as stored, as a body, in
a payload). Of both a project has its share (`sharing`), so that its jobs do not stand before those of
others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from workers.attempts import Batch
from workers.consumer import Consumer
from workers.consumers import Consumers
from workers.dispatcher import Dispatcher
from workers.doorbell import LocalDoorbell
from workers.outages import Stop
from workers.receivers import SinkFinder
from workers.slots import Slots
from workers.store import RetryingStore
from zaqar_notify.delivery import left_by_earlier_releases
from zaqar_notify.delivery.partitions import partitions_in_use, partitions_of
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.service import Service
from zaqar_notify.storage.base import Watch
from zaqar_notify.storage.internal import Partition, outbox_ref, retry_ref

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.5
"""How often due work is looked for without having been told of it. The default lease and this make the
time after which a dead worker's deliveries begin again, at the latest."""


class Sinks(SinkFinder, Protocol):
    @property
    def troubles(self) -> Mapping[str, int]:
        """How many things an operator has to mend, by scheme."""

    async def close(self) -> None:
        """Let go of connections. Idempotent."""


Periodic: TypeAlias = Callable[[], Coroutine[object, object, None]]
"""Work that the engine starts and that goes on until it is cancelled, or the stop."""


class _Ended(Exception):
    """Ends the group of the engine's tasks."""


class _ConsumedPool:
    """A pool whose partitions are consumed, until it is over: there is no such pool any more."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_over = False


class Engine:
    """Runs once, in one event loop: `workers.build` puts it together."""

    def __init__(
        self,
        service: Service,
        doorbell: LocalDoorbell,
        sinks: Sinks,
        consumers: Consumers,
        dispatcher: Dispatcher,
        slots: Slots[Batch],
        store: RetryingStore,
        periodic: Sequence[Periodic],
        *,
        worker: str,
        tasks: asyncio.TaskGroup,
        stop: Stop,
    ) -> None:
        """`tasks` is entered by `run`: all work of the engine ends with it."""
        self.worker = worker
        """The name of this engine in the delivery log."""
        self._service = service
        self._doorbell = doorbell
        self._sinks = sinks
        self._consumers = consumers
        self._dispatcher = dispatcher
        self._slots = slots
        self._store = store
        self._periodic = periodic
        self._tasks = tasks
        self._stop = stop
        self._partitions: set[Partition] = set()
        self._pools: dict[str, _ConsumedPool] = {}
        self._consuming = 0
        self._has_begun = False
        self._ending = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Subscriptions that are being sent to right now."""
        return self._slots.running

    @property
    def troubles(self) -> Mapping[str, int]:
        """How many things an operator has to mend before deliveries go on, by scheme."""
        return self._sinks.troubles

    @property
    def in_hand(self) -> int:
        """Jobs and deliveries that are claimed and not finished."""
        return self._consumers.in_hand

    async def run(self) -> None:
        """Deliver until `drain` is called. Closes the sinks at the end."""
        try:
            if self._stop.is_set():
                return
            async with self._tasks:
                self._begin()
                await self._ending.wait()
                raise _Ended
        except* _Ended:
            await self._consumers.give_back()
        finally:
            await self._sinks.close()
            self._over.set()
            self._consumers.wake()

    async def drain(self, timeout_seconds: float) -> None:
        """Stop claiming, let the jobs in hand finish for so long, give back the rest, and end `run`."""
        self._stop.set()
        self._consumers.wake()
        if not self._has_begun or self._over.is_set():
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._consumers.until(self._is_idle)
        except TimeoutError:
            logger.warning(
                "Some jobs were not finished in time; they go back to the store",
                extra={"action": "drain_timeout", "in_hand": self.in_hand},
            )
        self._ending.set()
        await self._over.wait()

    def _is_idle(self) -> bool:
        return self._over.is_set() or not (self.in_hand or self._consuming)

    def _begin(self) -> None:
        self._has_begun = True
        for partition in sorted(partitions_of(self._service.storage, self._service.settings)):
            self._take_on(partition)
        self._tasks.create_task(self._take_on_others())
        for work in self._periodic:
            self._tasks.create_task(work())

    def _take_on(self, partition: Partition) -> None:
        """Consume the internal queues of this partition, too."""
        self._partitions.add(partition)
        if partition.pool not in self._pools:
            self._pools[partition.pool] = _ConsumedPool(partition.pool)
            for ref in left_by_earlier_releases():
                self._begin_consumer(self._pools[partition.pool], ref)
        pool = self._pools[partition.pool]
        self._begin_consumer(pool, outbox_ref(partition), self._doorbell.bell(partition))
        self._begin_consumer(pool, retry_ref(partition))

    def _begin_consumer(
        self, pool: _ConsumedPool, ref: QueueRef, bell: asyncio.Event | None = None
    ) -> None:
        consumer = self._consumers.open(pool.name, ref, bell, is_over=lambda: pool.is_over)
        self._consuming += 1
        self._tasks.create_task(self._listen(consumer, pool))
        self._tasks.create_task(self._consume(consumer, pool))

    async def _take_on_others(self) -> None:
        """Find the partitions of processes that were told another number of them, and of new pools, from time to
        time; and forget pools that have gone."""
        look = partial(partitions_in_use, self._service.storage, self._service.settings)
        while not self._stop.is_set():
            self._doorbell.unknown.clear()
            try:
                found = await self._store.until_answered(look)
            except StorageUnavailable:
                return  # Only when stopping.
            if self._stop.is_set():
                return
            self._forget_gone()
            for partition in found:
                if partition not in self._partitions:
                    self._take_on(partition)
            await _rung(self._doorbell.unknown)

    def _forget_gone(self) -> None:
        for pool in list(self._pools):
            if not self._service.storage.open_pools.has(pool):
                self._pools.pop(pool).is_over = True
        self._partitions = {each for each in self._partitions if each.pool in self._pools}

    def _goes_on(self, pool: _ConsumedPool) -> bool:
        return not self._stop.is_set() and not pool.is_over

    async def _listen(self, consumer: Consumer, pool: _ConsumedPool) -> None:
        """Ring the consumer's bell when its queue changes, on the store that the pool has at the time."""
        stores = self._service.storage.pools
        while self._goes_on(pool):
            if stores.is_away(pool.name):
                await self._stop.pause(LOOK_SECONDS)
                continue
            store = stores[pool.name]
            with store.messages.watch(consumer.ref, exclusive=True) as watch:
                consumer.bell.set()
                while self._goes_on(pool) and stores.present(pool.name) is store:
                    if not await self._look(watch, consumer):
                        return

    async def _look(self, watch: Watch, consumer: Consumer) -> bool:
        """Wait for a change, for some time; False: the store is closing, and answers at once from now on."""
        changed = partial(watch.changed, timeout_seconds=LOOK_SECONDS)
        began = time.monotonic()
        try:
            has_changed = await self._store.until_answered(changed)
        except StorageUnavailable:
            return False  # Only when stopping.
        if has_changed:
            consumer.bell.set()
        elif time.monotonic() - began < LOOK_SECONDS / 2:
            await self._stop.pause(LOOK_SECONDS)
        return True

    async def _consume(self, consumer: Consumer, pool: _ConsumedPool) -> None:
        try:
            while self._goes_on(pool):
                consumer.bell.clear()
                room = await self._consumers.room_for(consumer, self._stop)
                if self._stop.is_set():
                    return
                taken = await consumer.take(room)
                if self._stop.is_set():
                    await consumer.in_hand.put_back(taken)
                    return
                self._dispatcher.start(taken)
                if len(taken) < room:
                    await _rung(consumer.bell)
        except StorageUnavailable:
            return  # When stopping, or the pool has gone.
        finally:
            self._consuming -= 1
            if not self._stop.is_set():
                self._consumers.close(consumer)
            self._consumers.look_again()


async def _rung(bell: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await bell.wait()
    except TimeoutError:
        return
