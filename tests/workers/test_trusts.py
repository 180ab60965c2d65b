"""Workers delete the trusts that no subscription uses any more."""

from __future__ import annotations

import asyncio

import pytest

from tests.clock import ManualClock
from workers import trusts
from workers.outages import Stop
from zaqar_notify.delivery.trusts import Asker
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Subscription
from zaqar_notify.storage.planes import Storage


class Rounds:
    """Counts the rounds; the first fails as the store does."""

    def __init__(self, stop: Stop) -> None:
        self.count = 0
        self._stop = stop

    async def grant(self, subscription: Subscription, asker: Asker) -> str:
        pytest.fail("a round grants no trust")

    async def delete_unused(self) -> int:
        self.count += 1
        self._stop.set()
        raise StorageUnavailable("away")


async def test_a_round_that_fails_for_the_store_ends_nothing(
    storage: Storage, clock: ManualClock
) -> None:
    stop = Stop()
    rounds = Rounds(stop)

    async with asyncio.timeout(20):
        await trusts.delete_regularly(rounds, storage, clock=clock, stop=stop)

    assert rounds.count == 1
