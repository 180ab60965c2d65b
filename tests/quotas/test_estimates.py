"""Estimates: what they count, when they are measured, and by how much they are wrong."""

from __future__ import annotations

import asyncio

import pytest

from tests.quotas.test_rates import Hand
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.quotas import estimates
from zaqar_notify.quotas.estimates import PAUSE_PER_MEASURE, Estimates


class Stock:
    """The amount that all processes have stored. `seconds`: the time that a measure takes."""

    def __init__(self, hand: Hand) -> None:
        self.amount = 0
        self.measures = 0
        self.seconds = 0.0
        self.is_away = False
        self._hand = hand

    async def measure(self, _key: str) -> int:
        self.measures += 1
        found = self.amount
        await asyncio.sleep(0)
        self._hand.seconds += self.seconds
        if self.is_away:
            raise StorageUnavailable("away")
        return found


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def stock(hand: Hand) -> Stock:
    return Stock(hand)


@pytest.fixture
def kept(stock: Stock, hand: Hand) -> Estimates[str]:
    return Estimates(stock.measure, now=hand)


async def stored(kept: Estimates[str], stock: Stock, amount: int, limit: int) -> bool:
    """Whether there was room to store the amount."""
    if await kept.excess("p", amount, limit) is not None:
        return False
    stock.amount += amount
    kept.settle("p", amount)
    return True


async def test_a_lone_process_never_passes_the_limit_and_measures_seldom(
    kept: Estimates[str], stock: Stock
) -> None:
    while await stored(kept, stock, 1, 10_000):
        pass

    assert stock.amount == 10_000
    assert stock.measures < 300


async def test_what_is_removed_is_seen_before_a_refusal(kept: Estimates[str], stock: Stock) -> None:
    assert await stored(kept, stock, 100, 100)
    stock.amount = 40

    assert await stored(kept, stock, 60, 100)
    assert not await stored(kept, stock, 1, 100)


async def test_after_a_long_measure_refusals_wait_for_their_pause_and_cost_nothing(
    kept: Estimates[str], stock: Stock, hand: Hand
) -> None:
    stock.seconds = 2.0
    await stored(kept, stock, 100, 100)
    assert not await stored(kept, stock, 1, 100)
    measures = stock.measures
    stock.amount = 0

    hand.seconds += 2.0 * PAUSE_PER_MEASURE - 5
    assert not await stored(kept, stock, 1, 100)
    assert stock.measures == measures

    hand.seconds += 5
    assert await stored(kept, stock, 1, 100)


async def test_callers_at_the_same_time_share_a_measure(kept: Estimates[str], stock: Stock) -> None:
    results = await asyncio.gather(*(stored(kept, stock, 1, 5) for _ in range(50)))

    assert results.count(True) == 5
    assert stock.measures <= 3


async def test_while_the_store_is_away_the_estimate_goes_on(
    kept: Estimates[str], stock: Stock, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "PATIENCE_SECONDS", 0.01)
    assert await stored(kept, stock, 50, 100)
    stock.is_away = True

    assert await stored(kept, stock, 50, 100)
    assert not await stored(kept, stock, 1, 100)


async def test_a_store_that_never_answered_refuses_nothing_below_what_was_added(
    kept: Estimates[str], stock: Stock
) -> None:
    stock.is_away = True

    assert await stored(kept, stock, 100, 100)


async def test_a_process_measures_again_before_it_added_a_part_of_the_limit(
    kept: Estimates[str], stock: Stock
) -> None:
    await stored(kept, stock, 1, 1600)
    stock.amount = 1600  # Others filled it.

    passed = 0
    while await stored(kept, stock, 1, 1600):
        passed += 1

    assert passed <= 1600 / 16


async def test_made_up_projects_fill_no_memory(
    stock: Stock, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "MOST_ESTIMATES", 100)
    kept = Estimates(stock.measure, now=hand)

    for number in range(1000):
        await kept.excess(f"project-{number}", 1, 10)

    assert len(kept._estimates) == 100
