"""Ordered subscriptions: each delivery waits for the one before it, whatever happens to that."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace

from tests.workers.office import (
    DELIVERED,
    GONE,
    QUEUE,
    REFUSED,
    TRY_LATER,
    Hanging,
    Office,
    always,
    until,
    until_stored,
)
from zaqar_notify.delivery import InternalPost, replay_job
from zaqar_notify.models import Delivery, JsonObject, NewMessage, Outcome, Subscription
from zaqar_notify.rules.attributes import read_attributes
from zaqar_notify.rules.pacing import ORDERED_FOR
from zaqar_notify.storage.internal import parked_ref, places_ref

HOOK = "http://hook"
OTHER = "http://other"
TEN_SECONDS: JsonObject = {
    "retries_with_no_delay": 0,
    "minimum_delay_retries": 1,
    "minimum_delay": 10,
    "maximum_delay": 20,
    "maximum_delay_retries": 0,
}
ORDERED: JsonObject = {"_ordered": True, "_retry_policy": TEN_SECONDS}


@pytest.fixture(autouse=True)
def _engines_look_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests does not tell the engine that it went on."""
    monkeypatch.setattr("workers.engine.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("workers.pacing.round.LOOK_SECONDS", 0.02)


def numbers(count: int, *, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


async def nothing_is_parked(office: Office, subscription: Subscription) -> bool:
    return not await office.all_in(parked_ref(subscription.id))


async def test_deliveries_come_one_after_the_other_in_the_order_of_their_posts(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK, options=ORDERED)
    for body in numbers(50):
        await office.post(body)

    async with office.open():
        await office.sink.received(50)
        await until_stored(lambda: nothing_is_parked(office, subscription))

    assert office.sink.bodies(HOOK) == numbers(50)
    assert office.sink.most_under_way == 1


async def test_the_messages_of_one_post_come_in_its_order(office: Office) -> None:
    await office.subscribe(HOOK, options=ORDERED)
    await office.post(*numbers(20))

    async with office.open():
        await office.sink.received(20)

    assert office.sink.bodies(HOOK) == numbers(20)


async def test_what_is_posted_while_an_engine_runs_is_delivered_at_once(office: Office) -> None:
    await office.subscribe(HOOK, options=ORDERED)

    async with office.open():
        for count in range(1, 6):
            await office.post(b"%d" % count)
            await office.sink.received(count)
            await office.settled()

    assert office.sink.bodies(HOOK) == numbers(5, first=1)


async def test_a_delivery_that_fails_holds_up_those_behind_it_and_no_other_subscription(
    office: Office,
) -> None:
    await office.subscribe(HOOK, options=ORDERED)
    await office.subscribe(OTHER)
    office.sink.answers[HOOK] = always(TRY_LATER)
    await office.post(*numbers(3))

    async with office.open():
        await until(lambda: len(office.sink.to(OTHER)) == 3)
        await until(lambda: len(office.sink.to(HOOK)) == 1)
        await office.settled()
        office.sink.answers[HOOK] = always(DELIVERED)
        office.clock.advance(seconds=10)
        await until(lambda: len(office.sink.to(HOOK)) == 4)

    assert office.sink.bodies(HOOK) == [b"0", b"0", b"1", b"2"]
    assert [each.attempt for each in office.sink.to(HOOK)] == [1, 2, 1, 1]


async def test_after_the_last_attempt_the_next_delivery_has_its_turn(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=ORDERED)

    async def never_the_first(delivery: Delivery) -> Outcome:
        return REFUSED if delivery.message.body == b"0" else DELIVERED

    office.sink.answers[HOOK] = never_the_first
    await office.post(*numbers(3))

    async with office.open():
        await until(lambda: len(office.sink.to(HOOK)) == 3)

    assert office.sink.bodies(HOOK) == numbers(3)
    [given_up] = await office.undelivered(subscription)
    assert given_up.attempts == 1


async def test_a_failed_delivery_keeps_its_place_and_attempt_in_another_engine(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK, options=ORDERED)
    office.sink.answers[HOOK] = always(TRY_LATER)
    await office.post(*numbers(2))
    async with office.open():
        await office.sink.received(1)
        await until_stored(lambda: has_a_place(office, subscription))
    office.clock.advance(seconds=4)
    await office.post(b"2")
    async with office.open():
        await office.settled()
    tries_before_it_was_due = len(office.sink.deliveries)

    office.sink.answers[HOOK] = always(DELIVERED)
    office.clock.advance(seconds=7)
    async with office.open():
        await office.sink.received(4)

    assert tries_before_it_was_due == 1
    assert office.sink.bodies(HOOK) == [b"0", b"0", b"1", b"2"]
    assert office.sink.deliveries[1].attempt == 2


async def has_a_place(office: Office, subscription: Subscription) -> bool:
    return len(await office.all_in(places_ref(subscription.id))) == 1


async def test_an_engine_that_is_cut_off_leaves_its_deliveries_to_another_one_in_order(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK, options=ORDERED)
    office.sink.answers[HOOK] = Hanging()
    await office.post(*numbers(5))
    killed = office.engine()
    run = asyncio.create_task(killed.run())
    await office.sink.received(1)
    run.cancel()
    await asyncio.wait([run])
    await office.post(b"5")

    del office.sink.answers[HOOK]
    office.clock.advance(seconds=office.settings.delivery_lease_seconds)
    async with office.open():
        await office.sink.received(7)
        await until_stored(lambda: nothing_is_parked(office, subscription))

    assert office.sink.bodies(HOOK) == [b"0", *numbers(6)]


async def test_a_disabled_subscription_keeps_its_order(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=ORDERED)
    office.sink.answers[HOOK] = always(GONE)
    await office.post(b"0")
    async with office.open():
        await office.sink.received(1)
        await until_stored(lambda: is_disabled(office, subscription))
        await office.post(*numbers(3, first=1))
        await office.settled()

        del office.sink.answers[HOOK]
        await enable(office, subscription)
        await office.sink.received(5)

    assert office.sink.bodies(HOOK) == [b"0", *numbers(4)]


async def is_disabled(office: Office, subscription: Subscription) -> bool:
    found = await office.storage.subscriptions.get(QUEUE, subscription.id, now=office.clock.now())
    return found is not None and found.disabled_at is not None


async def enable(office: Office, subscription: Subscription) -> None:
    await change(office, subscription, subscription.options)


async def change(office: Office, subscription: Subscription, options: JsonObject) -> None:
    """As a PATCH does it."""

    def changed(present: Subscription) -> Subscription:
        return replace(present, options=options, disabled_at=None)

    after = await office.storage.subscriptions.update(
        QUEUE, subscription.id, changed, now=office.clock.now()
    )
    ref, job = replay_job(after, office.settings)
    await office.storage.messages.post(ref, InternalPost([job]), now=office.clock.now())


async def test_a_subscription_that_becomes_ordered_or_is_no_longer_loses_nothing(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK, options={"_retry_policy": TEN_SECONDS})
    office.sink.answers[HOOK] = always(TRY_LATER)
    await office.post(*numbers(3))
    async with office.open():
        await until(lambda: len(office.sink.deliveries) == 3)
        await office.settled()
        await change(office, subscription, ORDERED)
        await office.post(*numbers(3, first=3))
        office.clock.advance(seconds=10)
        await until(lambda: b"3" in office.sink.bodies(HOOK))
        await office.settled()
        await change(office, subscription, {"_retry_policy": TEN_SECONDS})
        del office.sink.answers[HOOK]
        await office.post(b"6")
        office.clock.advance(seconds=11)
        await until_stored(lambda: nothing_is_parked(office, subscription))
        await until(lambda: {*office.sink.bodies(HOOK)} == {*numbers(7)})
        await office.settled()

    assert not await office.undelivered(subscription)


async def test_messages_of_each_value_of_an_attribute_are_a_line_of_their_own(
    office: Office,
) -> None:
    options: JsonObject = {"_ordered": {"by_attribute": "customer"}, "_retry_policy": TEN_SECONDS}
    await office.subscribe(HOOK, options=options)

    async def not_to_anna(delivery: Delivery) -> Outcome:
        return TRY_LATER if customer(delivery) == "anna" else DELIVERED

    office.sink.answers[HOOK] = not_to_anna
    for number in range(9):
        await post_of(office, number)
    async with office.open():
        await until(lambda: len(office.sink.deliveries) == 7)
        await office.settled()
        await post_of(office, 9)
        await post_of(office, 10)
        await until(lambda: len(office.sink.deliveries) == 8)
        await office.settled()
        del office.sink.answers[HOOK]
        office.clock.advance(seconds=10)
        await until(lambda: len(office.sink.deliveries) == 12)

    lines = [[each for each in office.sink.deliveries if customer(each) == name] for name in NAMES]
    assert [[int(each.message.body) for each in line] for line in lines] == [
        [0, 0, 3, 6, 9],
        [1, 4, 7, 10],
        [2, 5, 8],
    ]


NAMES = ("anna", "bob", None)
CUSTOMERS = (
    b'{"customer":{"type":"String","value":"anna"}}',
    b'{"customer":{"type":"String","value":"bob"}}',
    None,
)


async def post_of(office: Office, number: int) -> None:
    """Post a message of one of the customers in turn."""
    message = NewMessage(b"%d" % number, ttl=3600, attributes=CUSTOMERS[number % 3])
    await office.post_messages([message])


def customer(delivery: Delivery) -> object:
    attribute = read_attributes(delivery.message.attributes).get("customer")
    return None if attribute is None else attribute.value


async def test_filtered_messages_of_an_ordered_subscription_are_left_out(office: Office) -> None:
    policy: JsonObject = {"customer": ["bob"]}
    subscription = await office.subscribe(HOOK, options={**ORDERED, "_filter_policy": policy})
    for number in range(6):
        await post_of(office, number)

    async with office.open():
        await office.sink.received(2)
        await until_stored(lambda: nothing_is_parked(office, subscription))

    assert office.sink.bodies(HOOK) == [b"1", b"4"]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_line_keeps_its_order_and_loses_nothing(
    office: Office, seed: int
) -> None:
    """Attempts fail, are refused or postponed by chance, and engines are cut off in the middle of them."""
    chance = random.Random(seed)
    options: JsonObject = {
        "_ordered": chance.choice((True, {"by_attribute": "customer"})),
        "_retry_policy": {"retries_with_no_delay": 100},
    }
    subscription = await office.subscribe(HOOK, options=options)
    outcomes = [DELIVERED, DELIVERED, TRY_LATER, REFUSED]

    done: set[int] = set()
    overtakes: list[tuple[int, int]] = []

    async def by_chance(delivery: Delivery) -> Outcome:
        number = int(delivery.message.body)
        step = 1 if options["_ordered"] is True else len(CUSTOMERS)
        before = number - step
        if before >= 0 and before not in done:
            overtakes.append((number, before))
        await asyncio.sleep(chance.uniform(0, 0.002))
        outcome = chance.choice(outcomes)
        if outcome is not TRY_LATER:
            done.add(number)
        return outcome

    office.sink.answers[HOOK] = by_chance
    for first in range(0, 40, 10):
        for number in range(first, first + 10):
            await post_of(office, number)
        tries = len(office.sink.deliveries)
        killed = asyncio.create_task(office.engine().run())
        await until(lambda tries=tries: len(office.sink.deliveries) > tries + 3)  # type: ignore[misc]
        killed.cancel()
        await asyncio.wait([killed])
        office.clock.advance(seconds=office.settings.delivery_lease_seconds)
    outcomes.remove(TRY_LATER)
    async with office.open():
        await until_stored(lambda: nothing_is_parked(office, subscription))
        await office.settled()

    assert overtakes == []
    assert done == {*range(40)}


async def test_a_head_that_was_not_told_of_an_ordered_subscription_is_told_by_a_worker(
    office: Office,
) -> None:
    """The process that made it ordered ended in between."""
    subscription = await office.subscribe(HOOK, options={})
    await office.storage.control.subscriptions.update(
        QUEUE,
        subscription.id,
        lambda present: replace(present, options=ORDERED),
        now=office.clock.now(),
    )
    await office.post(b"0")

    await office.work_off()
    await office.post(b"1")

    assert len(await office.all_in(parked_ref(subscription.id))) == 1
    await office.work_off()
    assert office.sink.bodies(HOOK) == [b"0", b"1"]


async def test_what_a_post_parked_for_a_subscription_that_is_gone_is_dropped(
    office: Office,
) -> None:
    """The process that deleted it ended before it had told the head."""
    subscription = await office.subscribe(HOOK, options=ORDERED)
    await office.storage.control.subscriptions.end(QUEUE, subscription.id)
    await office.post(b"0")

    await office.work_off()

    assert await nothing_is_parked(office, subscription)
    head = await office.storage.heads.get(QUEUE)
    assert head is not None
    assert ORDERED_FOR not in head.rules
