"""Keeping a process's clock to the store's, over an answer now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from zaqar_notify.clock import StoreClock, SystemClock
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.clock import store_clock
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
OFTEN_SECONDS = 0.001


class Answers:
    """A store's clock: `say` is asked at each reading, and `count` says how often that was."""

    def __init__(self) -> None:
        self.count = 0
        self.say: Callable[[], datetime] = lambda: NOON

    async def __call__(self) -> datetime:
        self.count += 1
        return self.say()

    async def asked(self, times: int) -> None:
        """Wait until so many more readings have begun."""
        wanted = self.count + times
        async with asyncio.timeout(10):
            while self.count < wanted:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = await open_storage(f"sqlite://{tmp_path / 'store.db'}")
    yield storage
    await storage.close()


@pytest.fixture
def answers(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers()
    monkeypatch.setattr(storage, "read_clock", answers)
    return answers


def still() -> float:
    return 0.0


async def test_a_store_without_a_clock_leaves_the_hosts(storage: Storage) -> None:
    async with store_clock(storage) as clock:
        assert abs(clock.now() - SystemClock().now()) < timedelta(seconds=5)


async def test_it_is_the_stores_from_the_first_moment_and_for_its_watches(
    storage: Storage, answers: Answers
) -> None:
    async with store_clock(storage, clock=StoreClock(seconds=still)) as clock:
        assert clock.now() == NOON
        assert storage.clock is clock


async def test_the_quickest_of_the_first_answers_counts(storage: Storage, answers: Answers) -> None:
    seconds = iter([0.0, 4.0, 10.0, 10.0, 20.0, 26.0])
    answers.say = lambda: NOON + timedelta(seconds=10 * (answers.count - 1))
    clock = StoreClock(seconds=lambda: next(seconds, 30.0))

    async with store_clock(storage, clock=clock):
        assert clock.now() == NOON + timedelta(seconds=30)


async def test_later_readings_put_it_right_and_a_jump_is_said(
    storage: Storage, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StoreClock(seconds=still)
    with caplog.at_level(logging.WARNING):
        async with store_clock(storage, clock=clock, read_seconds=OFTEN_SECONDS):
            answers.say = lambda: NOON + timedelta(seconds=3)
            await answers.asked(2)
            assert clock.now() == NOON + timedelta(seconds=3)

    assert [record.__dict__["seconds"] for record in caplog.records] == [3.0]


async def test_a_store_that_is_away_later_on_is_asked_again(
    storage: Storage, answers: Answers
) -> None:
    def away() -> datetime:
        raise StorageUnavailable("away")

    clock = StoreClock(seconds=still)
    async with store_clock(storage, clock=clock, read_seconds=OFTEN_SECONDS):
        answers.say = away
        await answers.asked(2)
        answers.say = lambda: NOON + timedelta(seconds=1)
        await answers.asked(2)

        assert clock.now() == NOON + timedelta(seconds=1)
