"""The circuit breakers of this process, and its part in those of the cluster.

What this process learns of an endpoint is told to the others at once, or within `FLUSH_SECONDS`, and what they tell is
heard as soon. Without the store's answer each process goes on with what it knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial

from workers.endpoints import Endpoint, Endpoints
from workers.outages import Stop
from workers.store import RetryingStore
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.endpoint_states import (
    Change,
    EndpointStates,
    Notice,
    notice_record,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.metrics import DeliveryCounts
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import DEFAULT_POOL, ENDPOINTS_REF

FLUSH_SECONDS = 0.25
"""After a write, changes are gathered for so long and written together."""
TOLD_PAUSE_SECONDS = 2
"""A shorter pause is over before the others have heard of it."""
LOOK_SECONDS = 2.5
BID_LOOKS = 40
BID_LOOK_SECONDS = 0.05
"""How often, and when, a bid is looked for that could not be read at once: writes of others stand before it."""
PROBE_OVERTIME_SECONDS = 5
"""So long after the time limit of an attempt, a probe of which nothing was heard is over."""
MOST_TOLD = 10_000
"""Changes that wait to be told; while the store gives no answer, further ones are not told."""


class Breakers:
    def __init__(
        self,
        endpoints: Endpoints,
        states: EndpointStates,
        store: RetryingStore,
        counts: DeliveryCounts,
        *,
        clock: Clock,
        attempt_seconds: float,
        stop: Stop,
    ) -> None:
        self._endpoints = endpoints
        self._states = states
        self._log = store.on(DEFAULT_POOL)
        self._counts = counts
        self._clock = clock
        self._probe = timedelta(seconds=attempt_seconds + PROBE_OVERTIME_SECONDS)
        self._stop = stop
        self._id = new_id()
        self._untold: dict[tuple[str, Change], Notice] = {}
        self._bids: set[Notice] = set()
        """Bids of this process that have not been read yet."""
        self._has_untold = asyncio.Event()
        states.when_read(self._heed)

    def opened(self, endpoint: Endpoint, seconds: float) -> None:
        """It fails: leave it alone for so long."""
        endpoint.open(self._clock.now() + timedelta(seconds=seconds))
        self._tell(endpoint, Change.OPENED, seconds)

    def closed(self, endpoint: Endpoint) -> None:
        """It answers again."""
        self._tell(endpoint, Change.CLOSED, 0)

    def paused(self, endpoint: Endpoint, seconds: float) -> None:
        """The receiver asked for a pause."""
        endpoint.pause(seconds, now=time.monotonic())
        if seconds >= TOLD_PAUSE_SECONDS:
            self._tell(endpoint, Change.PAUSED, seconds)

    async def seconds_until_probe(self, endpoint: Endpoint) -> float:
        """Bid for the probe of an endpoint that is half-open.

        Returns:
            0: this process, and no other, may try it. Otherwise the seconds until the present probe is over at the latest.

        Raises:
            StorageUnavailable: The worker stops.
        """
        now = self._clock.now()
        # An id of its own: several subscriptions of this endpoint may wait for the probe in this process.
        bid = Notice(Change.PROBED, endpoint.key, new_id(), now, now + self._probe)
        self._counts.endpoint_changes[Change.PROBED] += 1
        self._bids.add(bid)
        await self._log.until_answered(partial(self._post, [*self._take(), bid]))
        await self._log.until_answered(self._look)
        for _ in range(BID_LOOKS):
            if bid not in self._bids:
                break
            await self._stop.pause(BID_LOOK_SECONDS)
            await self._log.until_answered(self._look)
        self._bids.discard(bid)
        state = self._states.of_key(endpoint.key)
        if state is None or state.probed_until is None:
            return BID_LOOK_SECONDS
        if state.prober == bid.by:
            return 0.0
        return max(BID_LOOK_SECONDS, (state.probed_until - self._clock.now()).total_seconds())

    async def tell_regularly(self) -> None:
        """Tell the others what this process learns, until it is cancelled."""
        while True:
            await self._has_untold.wait()
            with suppress(StorageUnavailable):
                await self._log.once(self._tell_untold)
            await asyncio.sleep(FLUSH_SECONDS)

    async def follow_regularly(self) -> None:
        """Heed what others tell, until it is cancelled."""
        while True:
            with suppress(StorageUnavailable):
                await self._log.once(self._follow)
            await asyncio.sleep(FLUSH_SECONDS)

    async def exchange(self, store: MessageStore) -> None:
        """Tell the others, and heed what they have told."""
        await self._tell_untold(store)
        await self._look(store)

    async def _follow(self, store: MessageStore) -> None:
        """Read what has been told, and wait for more."""
        with store.messages.watch(ENDPOINTS_REF) as watch:
            await self._look(store)
            await watch.changed(timeout_seconds=LOOK_SECONDS)

    async def _look(self, store: MessageStore) -> None:
        await self._states.look(store, now=self._clock.now())

    async def _tell_untold(self, store: MessageStore) -> None:
        if notices := self._take():
            await self._post(notices, store)

    def _heed(self, notice: Notice) -> None:
        self._bids.discard(notice)
        if notice.by != self._id and notice.change is not Change.PROBED:
            self._endpoints.learn(notice.endpoint)

    async def _post(self, notices: Iterable[Notice], store: MessageStore) -> None:
        records = InternalPost([notice_record(each) for each in notices])
        await store.messages.post(ENDPOINTS_REF, records, now=self._clock.now())

    def _tell(self, endpoint: Endpoint, change: Change, seconds: float) -> None:
        self._counts.endpoint_changes[change] += 1
        now = self._clock.now()
        notice = Notice(change, endpoint.key, self._id, now, now + timedelta(seconds=seconds))
        if len(self._untold) < MOST_TOLD:
            # In the order of their last changes, so that an endpoint that was opened and closed is closed.
            self._untold.pop((endpoint.key, change), None)
            self._untold[endpoint.key, change] = notice
            self._has_untold.set()

    def _take(self) -> list[Notice]:
        notices = list(self._untold.values())
        self._untold.clear()
        self._has_untold.clear()
        return notices
