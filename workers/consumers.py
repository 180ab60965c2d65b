"""All consumers of one process: the jobs that they have in hand together, and the heartbeat of their leases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from workers.consumer import Consumer
from workers.in_hand import InHand
from workers.outages import Stop
from workers.slots import Spawn
from workers.store import Asked, RetryingStore
from zaqar_notify.clock import Clock
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.sharing import Budget
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

logger = logging.getLogger(__name__)

MAX_BYTES_IN_HAND = 64 << 20

MAX_BYTES_OF_LINES = 32 << 20
"""Of deliveries that paced replays have read; each replay may have one more."""

RELEASE_SECONDS = 2.0
"""Time for giving back the jobs in hand, after the time to finish them is over."""


class Consumers:
    def __init__(
        self,
        storage: Storage,
        store: RetryingStore,
        spawn: Spawn,
        *,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._storage = storage
        self._store = store
        self._spawn = spawn
        self._clock = clock
        self._settings = settings
        self._bytes_in_hand = Budget(MAX_BYTES_IN_HAND)
        self.bytes_of_lines = Budget(MAX_BYTES_OF_LINES)
        self._open: list[Consumer] = []
        self._freed = asyncio.Event()

    @property
    def in_hand(self) -> int:
        """Jobs and deliveries that are claimed and not finished."""
        return sum(consumer.in_hand.jobs.used for consumer in self._open)

    def open(
        self,
        pool: str,
        ref: QueueRef,
        bell: asyncio.Event | None = None,
        *,
        is_over: Callable[[], bool],
    ) -> Consumer:
        """A consumer on the pool's message store, until there is no such pool any more. Its leases are renewed until
        it is closed; its caller has it take messages."""
        asked = self._store.consumed(pool, is_over)
        return self._open_on(asked, pool, ref, bell, is_durable=False)

    @contextmanager
    def opened(self, queue: QueueRef, own: QueueRef) -> Iterator[Consumer]:
        """A consumer of a subscription's own queue, wherever the subscription's queue is."""
        asked, pool = self._store.at(queue), self._storage.pool_of(queue)
        consumer = self._open_on(asked, pool, own, None, is_durable=True)
        try:
            yield consumer
        finally:
            self.close(consumer)

    def close(self, consumer: Consumer) -> None:
        """Renew the leases of its messages no more."""
        self._open.remove(consumer)

    def _open_on(
        self,
        asked: Asked,
        pool: str,
        ref: QueueRef,
        bell: asyncio.Event | None,
        *,
        is_durable: bool,
    ) -> Consumer:
        lease_seconds = self._settings.delivery_lease_seconds
        in_hand = InHand(
            asked,
            ref,
            pool=pool,
            clock=self._clock,
            lease_seconds=lease_seconds,
            most=self._settings.delivery_concurrency,
            bytes_in_hand=self._bytes_in_hand,
            spawn=self._spawn,
            freed=self.look_again,
        )
        consumer = Consumer(
            asked,
            in_hand,
            clock=self._clock,
            lease_seconds=lease_seconds,
            bell=bell or asyncio.Event(),
            is_durable=is_durable,
        )
        self._open.append(consumer)
        return consumer

    def look_again(self) -> None:
        """Something was freed, or the process stops: have all that wait for it look."""
        self._freed.set()
        for consumer in self._open:
            consumer.look_again()

    def wake(self) -> None:
        """Ring all bells: the process stops."""
        for consumer in self._open:
            consumer.bell.set()
        self._freed.set()

    async def room_for(self, consumer: Consumer, stop: Stop) -> int:
        """Wait until more may be in hand, or the stop; return how many at once."""
        await self.until(
            lambda: stop.is_set() or bool(consumer.room and self._bytes_in_hand.free > 0)
        )
        return consumer.room

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that may come true when something is freed."""
        while not condition():
            self._freed.clear()
            await self._freed.wait()

    async def renew(self) -> None:
        """The heartbeat: prolong all leases that are not fresh.

        Raises:
            StorageUnavailable: Some may not be prolonged.
        """
        # Writes that are asked for together are one commit, where the store can do that. A store that gives no answer
        # must not keep the leases on other stores from the next heartbeat.
        longest = self._settings.delivery_lease_seconds / 3
        try:
            async with asyncio.timeout(longest):
                await asyncio.gather(*(consumer.in_hand.renew() for consumer in self._open))
        except TimeoutError as error:
            raise StorageUnavailable(f"Leases were not renewed within {longest:.1f} s") from error

    async def give_back(self) -> None:
        """Release the jobs in hand, uncounted."""
        given = [consumer.in_hand.give_back() for consumer in self._open]
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                results = await asyncio.gather(*given, return_exceptions=True)
        except TimeoutError as error:
            results = [error]
        if any(isinstance(result, StorageUnavailable | TimeoutError) for result in results):
            logger.warning(
                "Some jobs could not be given back; they come back when their leases end",
                extra={"action": "storage_unavailable"},
            )
