"""The rules of slots: which jobs run, wait, or are turned away, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta

import pytest

from tests.workers.office import until
from workers.endpoints import (
    FIRST_BATCHES,
    MAX_ENDPOINTS,
    PATIENCE_SECONDS,
    SILENCE_SECONDS,
    Endpoint,
    Endpoints,
)
from workers.slots import Slots
from zaqar_notify.clock import SystemClock
from zaqar_notify.delivery.endpoint_states import EndpointState, EndpointStates


class Timer:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Hold:
    """A batch that lasts until it is let go, or that notes its turn and ends."""

    def __init__(self, endpoint: Endpoint, log: list[str] | None = None, name: str = "") -> None:
        self.endpoint = endpoint
        self.may_begin = True
        self.is_patient = False
        self.has_begun = False
        self.let_go = asyncio.Event()
        self._log = log
        self._name = name

    def accepted(self) -> None:
        """Nothing depends on it here."""

    async def go(self) -> None:
        self.has_begun = True
        if self._log is None:
            await self.let_go.wait()
        else:
            self._log.append(self._name)


@pytest.fixture
def timer() -> Timer:
    return Timer()


class Workshop:
    """Slots whose tasks end with the test."""

    def __init__(self, timer: Timer) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.timer = timer

    def slots(
        self,
        *,
        total: int = 8,
        per_endpoint: int = 2,
        breaker_failures: int = 3,
        most_of: Callable[[str], int] | None = None,
    ) -> Slots[Hold]:
        self.endpoints = Endpoints(
            limit=per_endpoint,
            breaker_failures=breaker_failures,
            states=EndpointStates(),
            clock=SystemClock(),
        )
        return Slots(
            lambda batch: batch.go(), self._spawn, total=total, most_of=most_of, timer=self.timer
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))


@pytest.fixture
def workshop(timer: Timer) -> Workshop:
    return Workshop(timer)


@pytest.fixture(autouse=True)
async def _tidy(workshop: Workshop) -> object:
    yield
    for task in workshop.tasks:
        task.cancel()
    await asyncio.gather(*workshop.tasks, return_exceptions=True)


def begun(batches: list[Hold]) -> int:
    return sum(batch.has_begun for batch in batches)


def submitted(slots: Slots[Hold], endpoint: Endpoint, count: int) -> list[Hold]:
    batches = [Hold(endpoint) for _ in range(count)]
    for batch in batches:
        slots.submit(batch)
    return batches


def fail(endpoint: Endpoint, times: int, *, seconds: float = 0.0, now: float = 1000.0) -> None:
    for _ in range(times):
        endpoint.tried(succeeded=False, seconds=seconds, now=now)


async def turns() -> None:
    """Let everything that can go on without waiting do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_an_endpoint_has_no_more_slots_than_its_share(workshop: Workshop) -> None:
    slots = workshop.slots(total=8, per_endpoint=2)
    batches = submitted(slots, workshop.endpoints.of("p", "a"), 5)

    await turns()

    assert (begun(batches), slots.running, slots.waiting) == (2, 2, 3)


async def test_a_project_has_no_more_slots_than_its_quota_and_gets_more_once_that_is_raised(
    workshop: Workshop,
) -> None:
    quotas = {"bounded": 3}
    slots = workshop.slots(
        total=16, per_endpoint=16, most_of=lambda project: quotas.get(project, 0)
    )
    bounded = [
        batch
        for name in "abcde"
        for batch in submitted(slots, workshop.endpoints.of("bounded", name), 2)
    ]
    free = submitted(slots, workshop.endpoints.of("free", "f"), 4)

    await turns()
    assert (begun(bounded), begun(free)) == (3, 4)

    quotas["bounded"] = 5
    bounded[0].let_go.set()
    await until(lambda: begun(bounded) == 6)
    await turns()
    assert begun(bounded) == 6  # One of them has ended.


async def test_all_endpoints_together_have_no_more_than_all_slots(workshop: Workshop) -> None:
    slots = workshop.slots(total=3, per_endpoint=2)
    batches = [
        batch for name in "abc" for batch in submitted(slots, workshop.endpoints.of("p", name), 2)
    ]

    await turns()
    assert (begun(batches), slots.waiting) == (3, 3)

    for batch in batches:
        batch.let_go.set()
    await until(lambda: slots.running == 0)
    assert begun(batches) == 6


async def test_no_more_slots_are_started_than_there_are_runs(workshop: Workshop) -> None:
    slots = workshop.slots(total=8)
    runs = [Hold(workshop.endpoints.of("p", name), [], name) for name in "abcde"]

    for run in runs:
        slots.submit(run)
    await until(lambda: begun(runs) == 5)

    assert len(workshop.tasks) == 5


async def test_endpoints_take_turns(workshop: Workshop) -> None:
    slots = workshop.slots(total=1, per_endpoint=1)
    log: list[str] = []
    for name in ("a", "a", "a", "b", "c"):
        slots.submit(Hold(workshop.endpoints.of("p", name), log, name))

    await until(lambda: len(log) == 5)

    assert log == ["a", "b", "c", "a", "a"]


async def test_projects_take_turns_however_many_endpoints_they_have(workshop: Workshop) -> None:
    slots = workshop.slots(total=1)
    log: list[str] = []
    [before] = submitted(slots, workshop.endpoints.of("other", "a"), 1)
    for number in range(5):
        slots.submit(Hold(workshop.endpoints.of("big", f"{number}"), log, "big"))
    for name in ("small", "tiny"):
        slots.submit(Hold(workshop.endpoints.of(name, "a"), log, name))

    before.let_go.set()
    await until(lambda: len(log) == 7)

    assert log == ["big", "small", "tiny", "big", "big", "big", "big"]


async def test_a_project_alone_leaves_a_quarter_of_the_slots_to_the_next(
    workshop: Workshop,
) -> None:
    slots = workshop.slots(total=8)
    hanging = [
        batch
        for number in range(50)
        for batch in submitted(slots, workshop.endpoints.of("p", f"{number}"), 1)
    ]
    await turns()
    assert begun(hanging) == 6

    healthy = submitted(slots, workshop.endpoints.of("q", "a"), 1)
    await turns()
    assert begun(healthy) == 1


async def test_slots_that_one_project_gives_back_go_to_all_that_may_have_more(
    workshop: Workshop,
) -> None:
    slots = workshop.slots(total=8)
    batches = [
        batch
        for number in range(12)
        for batch in submitted(slots, workshop.endpoints.of("p", f"{number}"), 1)
    ]
    await turns()

    for batch in batches:
        batch.let_go.set()

    await until(lambda: slots.running == slots.waiting == 0)
    assert begun(batches) == 12


async def test_the_suspects_of_one_project_leave_slots_to_those_of_another(
    workshop: Workshop,
) -> None:
    slots = workshop.slots(total=32)
    for number in range(20):
        endpoint = workshop.endpoints.of("p", f"ill{number}")
        fail(endpoint, 3)
        submitted(slots, endpoint, 1)
    await turns()
    other = workshop.endpoints.of("q", "ill")
    fail(other, 3)

    batches = submitted(slots, other, 1)

    await turns()
    assert (slots.running, begun(batches)) == (7, 1)


async def test_an_endpoint_is_trusted_with_more_runs_by_its_successes(workshop: Workshop) -> None:
    slots = workshop.slots(total=64, per_endpoint=16)
    endpoint = workshop.endpoints.of("p", "a")
    batches = submitted(slots, endpoint, 20)
    await turns()
    assert begun(batches) == FIRST_BATCHES

    for _ in range(3):
        endpoint.tried(succeeded=True, seconds=0, now=1000)
    assert endpoint.limit == FIRST_BATCHES + 3

    fail(endpoint, 3)
    endpoint.tried(succeeded=True, seconds=0, now=1000)
    assert endpoint.limit == FIRST_BATCHES


async def test_projects_do_not_share_an_endpoint(workshop: Workshop) -> None:
    workshop.slots()

    assert workshop.endpoints.of("p1", "a") is workshop.endpoints.of("p1", "a")
    assert workshop.endpoints.of("p1", "a") is not workshop.endpoints.of("p2", "a")


async def test_a_failing_endpoint_gets_one_run_at_a_time_until_one_succeeds(
    workshop: Workshop,
) -> None:
    slots = workshop.slots(per_endpoint=2, breaker_failures=3)
    endpoint = workshop.endpoints.of("p", "a")
    fail(endpoint, 2)
    assert endpoint.limit == 2

    fail(endpoint, 1)
    assert endpoint.limit == 1
    batches = submitted(slots, endpoint, 2)
    await turns()
    assert begun(batches) == 1

    endpoint.tried(succeeded=True, seconds=0, now=1000)
    assert endpoint.limit == 2
    batches[0].let_go.set()
    await until(lambda: begun(batches) == 2)


async def test_suspects_have_a_quarter_of_the_slots(workshop: Workshop) -> None:
    slots = workshop.slots(total=8)
    suspects = []
    for number in range(6):
        endpoint = workshop.endpoints.of("p", f"ill{number}")
        fail(endpoint, 3)
        suspects += submitted(slots, endpoint, 1)
    await turns()
    assert begun(suspects) == 2

    healthy = [
        batch
        for number in range(6)
        for batch in submitted(slots, workshop.endpoints.of("q", f"{number}"), 1)
    ]
    await turns()
    assert begun(healthy) == 5

    suspects[0].let_go.set()
    await until(lambda: begun(suspects) == 3)


async def test_a_silent_endpoint_admits_less_the_longer_it_is_silent(
    workshop: Workshop, timer: Timer
) -> None:
    slots = workshop.slots(per_endpoint=2)
    endpoint = workshop.endpoints.of("p", "a")
    submitted(slots, endpoint, 5)
    await turns()
    assert endpoint.admits(workshop.timer())

    # Three wait; a fourth would have its turn after 4 / 2 times the silence.
    timer.now += PATIENCE_SECONDS / 2
    assert endpoint.admits(workshop.timer())
    timer.now += 0.01
    assert not endpoint.admits(workshop.timer())


async def test_nothing_is_turned_away_for_a_worker_that_stood_still_as_a_burst_began(
    workshop: Workshop, timer: Timer
) -> None:
    slots = workshop.slots(total=400, per_endpoint=16)
    endpoint = workshop.endpoints.of("p", "a")
    submitted(slots, endpoint, 200)
    await turns()

    timer.now += SILENCE_SECONDS / 2

    assert endpoint.admits(workshop.timer())
    assert slots.turn_away_overdue() == []


async def test_one_slow_wave_of_tries_says_less_than_two(workshop: Workshop) -> None:
    slots = workshop.slots(total=400, per_endpoint=16)
    endpoint = workshop.endpoints.of("p", "a")
    submitted(slots, endpoint, FIRST_BATCHES + 160)
    await turns()
    admitted = []
    for _ in range(2):
        for _ in range(16):
            endpoint.tried(succeeded=True, seconds=0.15, now=1000)
        admitted.append(endpoint.admits(workshop.timer()))

    assert admitted == [True, False]


async def test_a_quick_endpoint_admits_more_than_it_can_run(workshop: Workshop) -> None:
    slots = workshop.slots(per_endpoint=2)
    endpoint = workshop.endpoints.of("p", "a")
    for _ in range(20):
        endpoint.tried(succeeded=True, seconds=0.002, now=1000)
    submitted(slots, endpoint, 500)

    assert endpoint.admits(workshop.timer())


async def test_what_waits_for_a_stuck_endpoint_is_turned_away(
    workshop: Workshop, timer: Timer
) -> None:
    slots = workshop.slots(total=8, per_endpoint=2)
    stuck = submitted(slots, workshop.endpoints.of("p", "stuck"), 6)
    await turns()
    assert slots.turn_away_overdue() == []

    timer.now += PATIENCE_SECONDS
    overdue = slots.turn_away_overdue()

    assert overdue == stuck[4:]
    assert slots.waiting == 2
    timer.now += 0.01
    assert slots.turn_away_overdue() == stuck[2:4]


async def test_what_waits_only_for_a_slot_is_not_turned_away(
    workshop: Workshop, timer: Timer
) -> None:
    slots = workshop.slots(total=2, per_endpoint=2)
    submitted(slots, workshop.endpoints.of("p", "slow"), 2)
    submitted(slots, workshop.endpoints.of("p", "well"), 3)
    await turns()

    timer.now += 10 * PATIENCE_SECONDS

    assert slots.turn_away_overdue() == []


async def test_room_comes_when_a_slot_or_a_place_to_wait_is_free(workshop: Workshop) -> None:
    slots = workshop.slots(total=2, per_endpoint=2)
    batches = submitted(slots, workshop.endpoints.of("p", "a"), 4)
    await turns()
    room = asyncio.ensure_future(slots.room("p"))
    await turns()
    assert not room.done()

    batches[0].let_go.set()

    await asyncio.wait_for(room, timeout=5)


async def test_a_run_that_fails_does_not_take_its_slot_with_it(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Hold):
        async def go(self) -> None:
            raise RuntimeError("a defect")

    slots = workshop.slots(total=1)
    log: list[str] = []
    slots.submit(Failing(workshop.endpoints.of("p", "a")))
    slots.submit(Hold(workshop.endpoints.of("p", "b"), log, "b"))

    await until(lambda: log == ["b"])

    assert [record.__dict__["action"] for record in caplog.records] == ["batch_failed"]


def test_deferred_runs_get_turns_at_the_pace_of_the_endpoint(
    workshop: Workshop, timer: Timer
) -> None:
    workshop.slots(per_endpoint=2, breaker_failures=3)
    endpoint = workshop.endpoints.of("p", "a")
    for _ in range(40):
        endpoint.tried(succeeded=True, seconds=10, now=timer.now)

    assert [endpoint.book_turn(workshop.timer()) for _ in range(4)] == [1, 6, 11, 16]


async def test_a_paused_endpoint_gets_no_run_until_its_pause_has_passed(
    workshop: Workshop, timer: Timer
) -> None:
    slots = workshop.slots(per_endpoint=1)
    endpoint = workshop.endpoints.of("p", "a")
    under_way, waiting = submitted(slots, endpoint, 2)
    await turns()

    endpoint.pause(100, timer.now)
    endpoint.pause(5, timer.now)

    assert under_way.has_begun
    assert not endpoint.admits(workshop.timer())
    assert slots.turn_away_overdue() == [waiting]
    assert [endpoint.book_turn(workshop.timer()) for _ in range(2)] == [100, 100]

    under_way.let_go.set()
    await turns()
    timer.now += 100
    assert endpoint.admits(workshop.timer())


def test_runs_put_off_over_a_pause_come_back_at_the_pace_of_the_endpoint(
    workshop: Workshop, timer: Timer
) -> None:
    workshop.slots(per_endpoint=1)
    endpoint = workshop.endpoints.of("p", "a")
    for _ in range(50):
        endpoint.tried(succeeded=True, seconds=20.0, now=timer.now)

    endpoint.pause(86400, timer.now)

    waits = [endpoint.book_turn(workshop.timer()) for _ in range(5)]
    assert waits == [86400, 86420, 86440, None, None]


def test_what_would_wait_for_more_than_a_minute_is_not_deferred(workshop: Workshop) -> None:
    workshop.slots(per_endpoint=1)
    endpoint = workshop.endpoints.of("p", "a")
    for _ in range(20):
        endpoint.tried(succeeded=True, seconds=15, now=1000)

    waits = [endpoint.book_turn(workshop.timer()) for _ in range(6)]

    assert waits == [1, 16, 31, 46, None, None]


def test_what_a_failing_endpoint_is_owed_is_not_deferred(workshop: Workshop) -> None:
    workshop.slots(breaker_failures=3)
    endpoint = workshop.endpoints.of("p", "a")
    fail(endpoint, 3)

    assert endpoint.book_turn(workshop.timer()) is None


def test_a_recovered_endpoint_is_booked_anew(workshop: Workshop) -> None:
    workshop.slots(breaker_failures=3)
    endpoint = workshop.endpoints.of("p", "a")
    fail(endpoint, 40, seconds=15)
    for _ in range(5):
        endpoint.book_turn(workshop.timer())

    endpoint.tried(succeeded=True, seconds=0, now=1000)

    assert endpoint.book_turn(workshop.timer()) == 1


def overloaded(endpoint: Endpoint, *, began: float, now: float) -> None:
    endpoint.tried(succeeded=False, seconds=now - began, now=now, is_overloaded=True)


def test_an_overloaded_endpoint_has_half_as_many_attempts_once_for_all_under_way(
    workshop: Workshop,
) -> None:
    workshop.slots(per_endpoint=16, breaker_failures=100)
    endpoint = workshop.endpoints.of("p", "a")
    for _ in range(12):
        endpoint.tried(succeeded=True, seconds=1, now=1000)
    assert endpoint.limit == 16

    for _ in range(16):
        overloaded(endpoint, began=1000, now=1010)
    assert endpoint.limit == 8

    overloaded(endpoint, began=1010, now=1020)
    assert endpoint.limit == 4


def test_after_an_overload_the_attempts_grow_by_one_with_each_window_of_successes(
    workshop: Workshop,
) -> None:
    workshop.slots(per_endpoint=16, breaker_failures=100)
    endpoint = workshop.endpoints.of("p", "a")
    overloaded(endpoint, began=1000, now=1001)
    assert endpoint.limit == FIRST_BATCHES // 2

    limits = []
    for _ in range(10):
        endpoint.tried(succeeded=True, seconds=0, now=1002)
        limits.append(endpoint.limit)

    assert limits == [2, 2, 3, 3, 3, 4, 4, 4, 4, 4]


def test_failures_that_are_no_overload_leave_the_attempts_as_they_are(workshop: Workshop) -> None:
    workshop.slots(per_endpoint=16, breaker_failures=100)
    endpoint = workshop.endpoints.of("p", "a")

    fail(endpoint, 20)

    assert endpoint.limit == FIRST_BATCHES


def test_an_endpoint_always_has_one_attempt(workshop: Workshop) -> None:
    workshop.slots(per_endpoint=16, breaker_failures=100)
    endpoint = workshop.endpoints.of("p", "a")

    for number in range(10):
        overloaded(endpoint, began=1000 + number, now=1001 + number)

    assert endpoint.limit == 1


def test_a_success_outweighs_an_earlier_failure_elsewhere(workshop: Workshop) -> None:
    workshop.slots()
    endpoint = workshop.endpoints.of("p", "a")
    now = SystemClock().now()
    opened = EndpointState(opened_at=now, open_until=now + timedelta(seconds=60))
    endpoint.tried(succeeded=True, seconds=0, now=1000)

    endpoint.learn(opened, now + timedelta(seconds=5), 1004)
    assert not endpoint.is_suspect

    endpoint.learn(opened, now + timedelta(seconds=5), 1006)
    assert endpoint.seconds_open(now + timedelta(seconds=5)) == 55


def test_no_more_endpoints_are_remembered_than_the_bound(workshop: Workshop) -> None:
    workshop.slots(breaker_failures=1)
    first = workshop.endpoints.of("p", "first")
    fail(first, 1)

    for number in range(MAX_ENDPOINTS):
        workshop.endpoints.of("p", str(number))

    assert not workshop.endpoints.of("p", "first").is_suspect
