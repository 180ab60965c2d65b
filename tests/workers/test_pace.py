"""Batches, rates and bounds of requests under way: exact, since one consumer decides."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest

from tests.workers.office import (
    DELIVERED,
    REFUSED,
    TRY_LATER,
    Hanging,
    Office,
    always,
    until_stored,
)
from tests.workers.test_order import ORDERED, TEN_SECONDS, nothing_is_parked, numbers
from zaqar_notify.models import Delivery, JsonObject, NewMessage, Outcome
from zaqar_notify.rules.attributes import canonical
from zaqar_notify.storage.internal import places_ref

HOOK = "http://hook"


@pytest.fixture(autouse=True)
def _engines_look_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests does not tell the engine that it went on."""
    monkeypatch.setattr("workers.engine.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("workers.pacing.round.LOOK_SECONDS", 0.02)


def batches_of(count: int, seconds: int = 0, **options: object) -> JsonObject:
    return {"_batch": {"count": count, "seconds": seconds}, "_retry_policy": TEN_SECONDS, **options}


def bodies(delivery: Delivery) -> list[int]:
    """Of the notifications in a batch."""
    return [notification["body"] for notification in json.loads(delivery.payload)]


async def test_a_batch_has_the_notifications_of_many_messages_in_order(office: Office) -> None:
    await office.subscribe(HOOK, options=batches_of(10))
    ids = await office.post(*numbers(25))

    await office.work_off()

    sent = office.sink.to(HOOK)
    assert [bodies(each) for each in sent] == [[*range(10)], [*range(10, 20)], [*range(20, 25)]]
    assert [message_id for each in sent for message_id in each.batch] == ids
    assert len({each.id for each in sent}) == 3


async def test_each_notification_in_a_batch_has_the_attributes_of_its_own_message(
    office: Office,
) -> None:
    await office.subscribe(HOOK, options=batches_of(3))
    blue, red = canonical(b'{"colour":"blue"}'), canonical(b'{"colour":"red"}')
    await office.post_messages(
        [NewMessage(b"1", 3600, attributes=each) for each in (blue, None, red)]
    )

    await office.work_off()

    [sent] = office.sink.to(HOOK)
    values = [each.get("attributes") for each in json.loads(sent.payload)]
    assert values == [json.loads(blue or b""), None, json.loads(red or b"")]


async def test_a_batch_waits_for_more_messages_until_its_time_is_over(office: Office) -> None:
    await office.subscribe(HOOK, options=batches_of(3, seconds=8))

    async with office.open():
        await office.post(b"0")
        await office.post(b"1")
        await until_stored(lambda: all_are_parked(office, 2))
        before = len(office.sink.deliveries)
        await office.post(b"2")
        await office.sink.received(1)
        await office.post(b"3")
        await until_stored(lambda: all_are_parked(office, 1))
        office.clock.advance(seconds=8)
        await office.sink.received(2)

    assert before == 0
    assert [bodies(each) for each in office.sink.to(HOOK)] == [[0, 1, 2], [3]]


async def all_are_parked(office: Office, count: int) -> bool:
    return await office.storage.store.heads.count_internal(prefix="parked.") == count


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_a_batch_that_fails_is_repeated_with_the_same_id_and_content(
    office: Office, is_ordered: bool
) -> None:
    subscription = await office.subscribe(HOOK, options=batches_of(10, _ordered=is_ordered))
    office.sink.answers[HOOK] = always(TRY_LATER)
    await office.post(*numbers(3))
    async with office.open():
        await office.sink.received(1)
        await office.settled()
    office.sink.answers[HOOK] = always(DELIVERED)
    await office.post(*numbers(2, first=3))

    office.clock.advance(seconds=10)
    async with office.open():
        await until_stored(lambda: nothing_is_parked(office, subscription))

    first, *others = office.sink.to(HOOK)
    [again] = [each for each in others if bodies(each) == bodies(first)]
    assert (again.id, again.payload, again.attempt) == (first.id, first.payload, 2)
    assert sorted(map(bodies, others)) == [[0, 1, 2], [3, 4]]
    assert not await office.all_in(places_ref(subscription.id))


async def test_a_batch_has_the_same_content_after_a_crash_in_its_attempt(office: Office) -> None:
    await office.subscribe(HOOK, options=batches_of(10, _ordered=True))
    office.sink.answers[HOOK] = Hanging()
    await office.post(*numbers(3))
    killed = asyncio.create_task(office.engine().run())
    await office.sink.received(1)
    killed.cancel()
    await asyncio.wait([killed])
    await office.post(*numbers(2, first=3))

    del office.sink.answers[HOOK]
    office.clock.advance(seconds=office.settings.delivery_lease_seconds)
    async with office.open():
        await office.sink.received(3)

    first, again, rest = office.sink.to(HOOK)
    assert (again.id, again.payload) == (first.id, first.payload)
    assert bodies(rest) == [3, 4]


async def test_each_message_of_a_batch_that_is_given_up_is_shown(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=batches_of(10))
    office.sink.answers[HOOK] = always(REFUSED)
    ids = await office.post(*numbers(3))

    await office.work_off()

    assert [each.message_id for each in await office.undelivered(subscription)] == ids


async def test_no_more_requests_are_under_way_than_the_subscription_takes(office: Office) -> None:
    await office.subscribe(HOOK, options={"_max_in_flight": 3})
    hanging = office.sink.answers[HOOK] = Hanging()
    await office.post(*numbers(20))

    async with office.open():
        await office.sink.received(3)
        await asyncio.sleep(0.05)  # Time for a fourth, if there were one.
        under_way = len(office.sink.deliveries)
        hanging.let_go.set()
        await office.settled()

    assert under_way == 3
    assert office.sink.most_under_way == 3
    assert sorted(office.sink.bodies(HOOK)) == sorted(numbers(20))


async def test_requests_begin_at_the_rate_that_the_subscription_takes(office: Office) -> None:
    """Measured as the least time between two, so a busy machine can't fail it."""
    await office.subscribe(HOOK, options={"_max_receives_per_second": 20})
    begun: list[float] = []

    async def at(_delivery: Delivery) -> Outcome:
        begun.append(time.monotonic())
        return DELIVERED

    office.sink.answers[HOOK] = at
    await office.post(*numbers(8))
    await office.work_off()

    between = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert len(begun) == 8
    assert min(between) > 0.045


async def test_another_engine_goes_on_at_the_rate(office: Office) -> None:
    await office.subscribe(HOOK, options={"_max_receives_per_second": 0.01})
    await office.post(*numbers(3))

    async with office.open():
        await office.sink.received(1)
        await office.settled()
    async with office.open():
        await office.settled()
    of_two_engines = len(office.sink.deliveries)
    office.clock.advance(seconds=96)
    async with office.open():
        await office.settled()

    assert of_two_engines == 1


async def test_a_delivery_of_an_unordered_one_that_fails_lets_the_others_pass(
    office: Office,
) -> None:
    options: JsonObject = {"_max_in_flight": 1, "_retry_policy": TEN_SECONDS}
    subscription = await office.subscribe(HOOK, options=options)

    async def not_the_first(delivery: Delivery) -> Outcome:
        is_first = delivery.message.body == b"0" and delivery.attempt == 1
        return TRY_LATER if is_first else DELIVERED

    office.sink.answers[HOOK] = not_the_first
    await office.post(*numbers(3))
    async with office.open():
        await office.sink.received(3)
        await until_stored(lambda: nothing_is_parked(office, subscription))
        office.clock.advance(seconds=10)
        await office.sink.received(4)

    assert office.sink.bodies(HOOK) == [*numbers(3), b"0"]


async def test_an_idle_paced_subscription_leaves_nothing_behind(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=ORDERED)
    await office.post(*numbers(3))

    await office.work_off()

    found = await office.storage.subscriptions.get(
        subscription.queue, subscription.id, now=office.clock.now()
    )
    assert found is not None
    assert found.replay_id is None
    assert not await office.all_in(places_ref(subscription.id))
