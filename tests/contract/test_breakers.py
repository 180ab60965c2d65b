"""The states of endpoints, which the processes of a cluster share through the store."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.clock import ManualClock
from workers.breakers import Breakers
from workers.endpoints import Endpoint, Endpoints
from workers.outages import Stop
from workers.store import RetryingStore
from zaqar_notify.delivery.endpoint_states import KEPT_SECONDS, EndpointStates
from zaqar_notify.metrics import DeliveryCounts
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.planes import Storage

ATTEMPT_SECONDS = 10
HOOK = "http://receiver"


class Process:
    """The breakers of one process."""

    def __init__(self, storage: Storage, clock: ManualClock, project: str) -> None:
        self.states = EndpointStates()
        self._endpoints = Endpoints(limit=16, breaker_failures=3, states=self.states, clock=clock)
        stop = Stop()
        self.breakers = Breakers(
            self._endpoints,
            self.states,
            RetryingStore(storage, clock=clock, stop=stop),
            DeliveryCounts(),
            clock=clock,
            attempt_seconds=ATTEMPT_SECONDS,
            stop=stop,
        )
        self._project = project
        self._store: MessageStore = storage.pools["default"]

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoints.of(self._project, HOOK)

    async def exchange(self) -> None:
        """Tell the others, and heed what they told."""
        await self.breakers.exchange(self._store)

    async def has_probe(self) -> bool:
        return await self.breakers.seconds_until_probe(self.endpoint) == 0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def processes(storage: Storage, clock: ManualClock, queue: QueueRef) -> list[Process]:
    return [Process(storage, clock, queue.project) for _ in range(4)]


async def test_an_endpoint_that_fails_in_one_process_is_left_alone_by_all(
    processes: list[Process], clock: ManualClock, storage: Storage, queue: QueueRef
) -> None:
    first, second, *_ = processes
    known = second.endpoint
    first.breakers.opened(first.endpoint, 8)
    await first.exchange()
    await second.exchange()
    late = Process(storage, clock, queue.project)
    await late.exchange()

    for endpoint in (first.endpoint, known, late.endpoint):
        assert endpoint.is_suspect
        assert endpoint.seconds_open(clock.now()) == pytest.approx(8, abs=0.01)

    second.breakers.closed(known)
    await second.exchange()
    await first.exchange()
    assert not first.endpoint.is_suspect


async def test_of_the_processes_that_want_to_probe_at_once_one_does(
    processes: list[Process], clock: ManualClock
) -> None:
    processes[0].breakers.opened(processes[0].endpoint, 1)
    await processes[0].exchange()
    clock.advance(seconds=1)

    assert sum(await asyncio.gather(*(each.has_probe() for each in processes))) == 1

    # Nothing is heard of the probe: it was killed.
    clock.advance(seconds=ATTEMPT_SECONDS)
    assert sum(await asyncio.gather(*(each.has_probe() for each in processes))) == 0
    clock.advance(seconds=5)
    assert sum(await asyncio.gather(*(each.has_probe() for each in processes))) == 1


async def test_a_probe_that_failed_makes_room_for_the_next(
    processes: list[Process], clock: ManualClock
) -> None:
    first, second, *_ = processes
    assert await first.has_probe()

    first.breakers.opened(first.endpoint, 2)
    await first.exchange()
    clock.advance(seconds=2)

    assert await second.has_probe()
    assert not await first.has_probe()


async def test_a_pause_holds_for_all_processes_until_its_end(
    processes: list[Process], clock: ManualClock
) -> None:
    first, second, *_ = processes
    known = second.endpoint
    first.breakers.paused(first.endpoint, 30)
    await first.exchange()
    await second.exchange()

    assert known.wait_until == pytest.approx(first.endpoint.wait_until, abs=5)
    assert not known.is_suspect
    assert second.states.counts(clock.now()) == {"open": 0, "half_open": 0, "paused": 1}
    assert second.states.counts(clock.now() + timedelta(seconds=30))["paused"] == 0


async def test_a_state_that_tells_nothing_any_more_is_forgotten(
    processes: list[Process], clock: ManualClock, storage: Storage, queue: QueueRef
) -> None:
    first = processes[0]
    first.breakers.opened(first.endpoint, 1)
    await first.exchange()
    assert first.states.of(queue.project, HOOK) is not None

    clock.advance(seconds=1 + KEPT_SECONDS)
    await first.exchange()

    assert first.states.of(queue.project, HOOK) is None
    late = Process(storage, clock, queue.project)
    await late.exchange()
    assert late.states.of(queue.project, HOOK) is None
