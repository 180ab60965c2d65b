"""The rate of a project's mails."""

from __future__ import annotations

import pytest

from sinks.rates import BURST_SECONDS, LONGEST_WAIT_SECONDS, MAX_PROJECTS, Rates
from tests.sinks.test_flow import Timer


@pytest.mark.parametrize("per_minute", [1, 7, 60, 1000])
def test_a_minutes_mails_go_at_once_and_the_others_by_the_rate(per_minute: int) -> None:
    timer = Timer()
    rates = Rates(timer=timer)
    sent = 0

    for _ in range(10):
        while not rates.take("p", per_minute=per_minute):
            sent += 1
        timer.now += BURST_SECONDS

    assert sent == pytest.approx(10 * per_minute, abs=2)


def test_each_mail_over_the_rate_gets_a_turn_of_its_own_at_which_it_goes() -> None:
    timer = Timer()
    rates = Rates(timer=timer)
    for _ in range(6):
        assert rates.take("p", per_minute=6) == 0

    waits = [rates.take("p", per_minute=6) for _ in range(3)]

    assert waits == [10, 20, 30]
    for _ in waits:
        timer.now += 10
        assert rates.take("p", per_minute=6) == 0


def test_a_mail_without_a_turn_soon_comes_back_within_a_quarter_of_an_hour() -> None:
    rates = Rates(timer=Timer())

    waits = [rates.take("p", per_minute=1) for _ in range(100)]

    assert max(waits) <= LONGEST_WAIT_SECONDS


def test_projects_have_rates_of_their_own_and_their_number_is_bounded() -> None:
    rates = Rates(timer=Timer())
    rates.take("p", per_minute=1)

    assert rates.take("q", per_minute=1) == 0
    assert rates.take("p", per_minute=1) > 0
    for number in range(MAX_PROJECTS + 1):
        rates.take(f"p{number}", per_minute=1)
    assert len(rates._buckets) == MAX_PROJECTS
