"""Wills: the subscriptions of WebSockets whose process does not come back end, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.clock import ManualClock
from tests.doorbell import SilentDoorbell
from tests.kinds import KINDS
from workers.wills import carry_out
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.wills import MOST_IN_WILL, Held, Times, read_will, subscriber_of, wills
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import WILLS_REF
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.subscriptions import hold

TIMES = Times(30)
OURS = Held("p1", "q", subscriber_of("me"), "c1")
LATER = Held("p1", "q", subscriber_of("me"), "c2")


class House:
    """A service, and the wills that are left to it."""

    def __init__(self, service: Service, clock: ManualClock) -> None:
        self.service, self.clock = service, clock

    async def leave(self, *held: Held) -> list[str]:
        post = InternalPost(wills(held, delay_seconds=TIMES.due_after))
        posted = await self.service.storage.messages.post(WILLS_REF, post, now=self.clock.now())
        return posted.ids

    async def withdraw(self, ids: list[str]) -> None:
        messages = self.service.storage.messages
        await messages.delete_many(WILLS_REF, ids, claim_ids=None, now=self.clock.now())

    async def carry_out(self) -> bool:
        return await carry_out(self.service.storage, clock=self.clock, times=TIMES)

    async def lives(self, held: Held = OURS) -> bool:
        subscriptions, now = self.service.storage.subscriptions, self.clock.now()
        return await subscriptions.of_subscriber(held.ref, held.subscriber, now=now) is not None


class Hurried(ManualClock):
    """A second passes at each look."""

    def now(self) -> datetime:
        self.advance(seconds=1)
        return super().now()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    storage = await open_storage(f"sqlite://{tmp_path}/zaqar.db")
    clock = ManualClock()
    service = Service(storage, Settings(auth="none"), clock, SilentDoorbell(), KINDS)
    await hold(service, OURS)
    yield House(service, clock)
    await storage.close()


async def test_a_will_is_carried_out_when_it_is_due_for_the_second_time(house: House) -> None:
    await house.leave(OURS)

    house.clock.advance(seconds=TIMES.due_after - 1)
    assert not await house.carry_out()
    house.clock.advance(seconds=1)
    assert await house.carry_out()
    assert await house.lives()
    house.clock.advance(seconds=TIMES.doubted_for)
    assert await house.carry_out()

    assert not await house.lives()
    house.clock.advance(seconds=3600)
    assert not await house.carry_out()


async def test_a_process_that_was_only_cut_off_replaces_its_will(house: House) -> None:
    former = await house.leave(OURS)
    house.clock.advance(seconds=TIMES.due_after)
    await house.carry_out()

    await house.leave(OURS)
    await house.withdraw(former)
    house.clock.advance(seconds=TIMES.doubted_for)
    await house.carry_out()

    assert await house.lives()


async def test_a_client_that_came_back_is_not_meant(house: House) -> None:
    await house.leave(OURS)
    await hold(house.service, LATER)

    for seconds in (TIMES.due_after, TIMES.doubted_for):
        house.clock.advance(seconds=seconds)
        await house.carry_out()

    assert await house.lives()


async def test_a_subscription_that_is_no_socket_s_any_more_is_not_meant(house: House) -> None:
    ref, now = OURS.ref, house.clock.now()
    subscriptions = house.service.storage.subscriptions
    [ours] = await subscriptions.list(ref, marker=None, limit=2, now=now)
    await subscriptions.delete(ref, ours.id)
    await house.leave(OURS)

    for seconds in (TIMES.due_after, TIMES.doubted_for):
        house.clock.advance(seconds=seconds)
        assert await house.carry_out()

    assert not await house.carry_out()


async def test_a_will_is_done_with_although_its_claim_has_run_out_meanwhile(house: House) -> None:
    held = [Held("p1", f"q{number}", "websocket:me", "gone") for number in range(40)]
    await house.leave(*held)
    house.clock.advance(seconds=TIMES.due_after)
    await house.carry_out()
    house.clock.advance(seconds=TIMES.doubted_for)

    await carry_out(house.service.storage, clock=Hurried(house.clock.now()), times=TIMES)

    house.clock.advance(seconds=3600)
    assert not await house.carry_out()


def test_a_long_will_is_several_messages() -> None:
    held = [Held("p1", f"q{number}", "websocket:me", "c") for number in range(MOST_IN_WILL + 1)]

    left = wills(held, delay_seconds=1.2)

    assert [len(read_will(message.body).held) for message in left] == [MOST_IN_WILL, 1]
    assert {message.delay for message in left} == {2}
