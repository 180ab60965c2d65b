"""Token buckets: how much, how soon, and in how little memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaqar_notify.quotas import rates
from zaqar_notify.quotas.rates import PLACES, PLACES_OF_PROJECT, Buckets


class Hand:
    """Seconds that a test puts forward."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Table:
    """Buckets that all have one burst."""

    def __init__(self, burst_seconds: float, hand: Hand) -> None:
        self._burst_seconds = burst_seconds
        self._buckets = Buckets(now=hand)

    def take(self, project: str, tokens: int, *, per_second: int) -> float:
        return self._buckets.take(
            project, tokens, per_second=per_second, burst_seconds=self._burst_seconds
        )


@pytest.fixture
def hand() -> Hand:
    return Hand()


def taken(buckets: Table, project: str, *, per_second: int, tries: int) -> int:
    """How many of so many requests at once are let through."""
    waits = [buckets.take(project, 1, per_second=per_second) for _ in range(tries)]
    return waits.count(0)


@pytest.mark.parametrize("per_second", [1, 3, 7, 1000])
def test_a_project_that_was_idle_has_the_tokens_of_the_burst(hand: Hand, per_second: int) -> None:
    buckets = Table(5, hand)

    assert taken(buckets, "p", per_second=per_second, tries=10_000) == 5 * per_second


def test_tokens_come_back_at_the_rate(hand: Hand) -> None:
    buckets = Table(1, hand)
    taken(buckets, "p", per_second=10, tries=10)

    hand.seconds += 0.35

    assert taken(buckets, "p", per_second=10, tries=10) == 3


def test_a_refusal_says_when_there_is_a_token_and_takes_none(hand: Hand) -> None:
    buckets = Table(1, hand)
    taken(buckets, "p", per_second=2, tries=2)

    waits = [buckets.take("p", 1, per_second=2) for _ in range(100)]

    assert waits == pytest.approx([0.5] * 100)


def test_more_tokens_than_there_are_become_a_debt(hand: Hand) -> None:
    buckets = Table(1, hand)

    assert buckets.take("p", 50, per_second=10) == 0
    assert buckets.take("p", 1, per_second=10) == pytest.approx(4.1)
    hand.seconds += 4.1
    assert buckets.take("p", 1, per_second=10) == 0


def test_projects_have_buckets_of_their_own(hand: Hand) -> None:
    buckets = Table(1, hand)
    taken(buckets, "flooding", per_second=10, tries=100)

    assert taken(buckets, "calm", per_second=10, tries=10) == 10


def test_made_up_projects_take_no_bucket_from_one_that_floods(hand: Hand) -> None:
    buckets = Table(1, hand)
    taken(buckets, "flooding", per_second=10, tries=10)

    for number in range(2 * PLACES):
        buckets.take(f"project-{number}", 1, per_second=1000)
        hand.seconds += 1e-6

    assert taken(buckets, "flooding", per_second=10, tries=10) <= 1


def test_projects_with_the_same_place_have_buckets_of_their_own(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "PLACES", PLACES_OF_PROJECT)
    buckets = Table(1, hand)
    projects = [f"project-{number}" for number in range(PLACES_OF_PROJECT)]

    counts = [taken(buckets, project, per_second=10, tries=20) for project in projects]
    again = [taken(buckets, project, per_second=10, tries=20) for project in projects]

    assert counts == [10] * PLACES_OF_PROJECT
    assert again == [0] * PLACES_OF_PROJECT


@given(
    st.integers(1, 50),
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 20)), min_size=1, max_size=50),
)
def test_no_window_lets_through_more_than_the_rate_the_burst_and_one_post(
    per_second: int, burst_seconds: int, posts: list[tuple[float, int]]
) -> None:
    hand = Hand()
    buckets = Table(burst_seconds, hand)
    began, let_through = hand.seconds, 0

    for pause, tokens in posts:
        hand.seconds += pause
        if not buckets.take("p", tokens, per_second=per_second):
            let_through += tokens

    most = per_second * (hand.seconds - began + burst_seconds) + max(size for _, size in posts)
    assert let_through <= most + 0.001
