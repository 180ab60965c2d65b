"""Clocks that go on by themselves, whatever is done to the host's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.clock import ManualClock
from zaqar_notify.clock import STEP_SECONDS, SteadyClock, StoreClock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Seconds:
    """The seconds of a clock that runs on, whatever a host's clock says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_without_a_reading_it_is_the_hosts_clock(seconds: Seconds, clock: ManualClock) -> None:
    store_clock = StoreClock(host=clock, seconds=seconds)

    clock.advance(seconds=5)

    assert store_clock.now() == clock.now()


@pytest.mark.parametrize("skew", [-86400.0, -3.0, 3.0, 86400.0])
def test_the_hosts_clock_changes_nothing_once_the_stores_is_known(
    seconds: Seconds, skew: float
) -> None:
    host = ManualClock(after(skew))
    store_clock = StoreClock(host=host, seconds=seconds)
    store_clock.adjust(NOON, asked_at=99.9, answered_at=100.1)

    host.advance(seconds=7 * skew)
    seconds.now += 2.5

    assert store_clock.now() == after(2.5)


def test_the_store_is_taken_to_have_read_its_clock_half_way(seconds: Seconds) -> None:
    store_clock = StoreClock(seconds=seconds)
    store_clock.adjust(NOON, asked_at=96.0, answered_at=100.0)

    assert store_clock.now() == after(2)


def test_a_reading_that_may_agree_changes_nothing(seconds: Seconds) -> None:
    store_clock = StoreClock(seconds=seconds)
    store_clock.adjust(NOON, asked_at=100.0, answered_at=100.0)

    drift = store_clock.adjust(after(10.9), asked_at=109.0, answered_at=111.0)

    seconds.now = 120.0
    assert drift == timedelta()
    assert store_clock.now() == after(20)


@pytest.mark.parametrize(("read_at", "step"), [(14.9, 0), (15.1, 0.1), (9.9, -0.1)])
def test_a_slow_answer_moves_it_by_no_more_than_is_certain(
    seconds: Seconds, read_at: float, step: float
) -> None:
    store_clock = StoreClock(seconds=seconds)
    store_clock.adjust(NOON, asked_at=100.0, answered_at=100.0)

    drift = store_clock.adjust(after(read_at), asked_at=110.0, answered_at=115.0)

    seconds.now = 120.0
    assert drift == timedelta(seconds=step)
    assert store_clock.now() == after(20 + step)


def test_a_reading_that_differs_puts_it_forward(seconds: Seconds) -> None:
    store_clock = StoreClock(seconds=seconds)
    store_clock.adjust(NOON, asked_at=100.0, answered_at=100.0)
    seconds.now = 110.0

    drift = store_clock.adjust(after(15), asked_at=110.0, answered_at=110.0)

    assert drift == timedelta(seconds=5)
    assert store_clock.now() == after(15)


def test_it_waits_for_a_store_whose_clock_went_back(seconds: Seconds) -> None:
    store_clock = StoreClock(seconds=seconds)
    store_clock.adjust(NOON, asked_at=100.0, answered_at=100.0)
    seconds.now = 110.0
    assert store_clock.now() == after(10)

    store_clock.adjust(after(8), asked_at=110.0, answered_at=110.0)

    assert store_clock.now() == after(10)
    seconds.now = 111.0
    assert store_clock.now() == after(10)
    seconds.now = 113.0
    assert store_clock.now() == after(11)


@pytest.fixture
def steady(seconds: Seconds, clock: ManualClock) -> SteadyClock:
    return SteadyClock(host=clock, seconds=seconds)


def pass_together(seconds: Seconds, clock: ManualClock, by: float) -> None:
    seconds.now += by
    clock.advance(seconds=by)


def test_a_steady_clock_is_the_hosts_while_nobody_sets_that(
    seconds: Seconds, clock: ManualClock, steady: SteadyClock
) -> None:
    pass_together(seconds, clock, 7.5)

    assert steady.now() == clock.now()


@pytest.mark.parametrize("step", [-3600.0, -0.2, 0.2, 3600.0])
def test_a_steady_clock_goes_on_when_the_hosts_is_set(
    seconds: Seconds, clock: ManualClock, steady: SteadyClock, step: float
) -> None:
    before = steady.now()

    clock.advance(seconds=step)
    assert steady.now() == before
    pass_together(seconds, clock, 60)

    assert steady.now() == before + timedelta(seconds=60)


def test_what_a_steady_clock_shows_is_the_hosts_time(
    seconds: Seconds, clock: ManualClock, steady: SteadyClock
) -> None:
    earlier = steady.now()

    clock.advance(seconds=-7200)
    pass_together(seconds, clock, 60)

    assert steady.host_now() == clock.now()
    assert steady.on_host(earlier) == clock.now() - timedelta(seconds=60)


def test_an_instant_is_shown_as_the_same_while_the_hosts_clock_is_slewed(
    clock: ManualClock, steady: SteadyClock
) -> None:
    instant = steady.now()

    clock.advance(seconds=STEP_SECONDS)

    assert steady.on_host(instant) == instant


@pytest.mark.parametrize("last", [datetime.max, datetime.min])
def test_an_end_of_the_calendar_is_shown_as_it_is(
    seconds: Seconds, clock: ManualClock, steady: SteadyClock, last: datetime
) -> None:
    instant = last.replace(tzinfo=UTC)

    clock.advance(seconds=3600 if last == datetime.max else -3600)

    assert steady.on_host(instant) == instant


def test_a_steady_clock_begins_where_it_is_told(seconds: Seconds, clock: ManualClock) -> None:
    steady = SteadyClock(begin=NOON, host=clock, seconds=seconds)

    pass_together(seconds, clock, 5)

    assert steady.now() == after(5)
    assert steady.host_now() == clock.now()
