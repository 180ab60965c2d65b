"""Deliveries to a receiver that can't take them are parked: written once, and fetched when it can."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from tests.workers.office import (
    DELIVERED,
    QUEUE,
    TRY_LATER,
    Hanging,
    Office,
    always,
    until,
    until_stored,
)
from zaqar_notify.delivery import OwedDelivery, read_work
from zaqar_notify.models import Delivery, JsonObject, Outcome, Subscription
from zaqar_notify.rules.retry import attempt_after
from zaqar_notify.rules.schedules import STANDARD_WEBHOOKS, Steps
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import parked_ref
from zaqar_notify.storage.planes import Storage

DEAD = "http://dead"
FEW_RETRIES: JsonObject = {
    "_retry_policy": {
        "retries_with_no_delay": 0,
        "minimum_delay_retries": 2,
        "minimum_delay": 10,
        "maximum_delay": 20,
        "maximum_delay_retries": 0,
    }
}
HOURLY: JsonObject = {
    "_retry_policy": {
        "retries_with_no_delay": 0,
        "minimum_delay_retries": 10,
        "minimum_delay": 3600,
        "maximum_delay": 7200,
    }
}


@pytest.fixture(autouse=True)
def _engines_look_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests does not tell the engine that it went on."""
    monkeypatch.setattr("workers.engine.LOOK_SECONDS", 0.02)


@pytest.fixture
def office(office: Office) -> Office:
    office.settings = Settings(
        delivery_breaker_failures=3, delivery_concurrency_per_endpoint=4, retry_jitter=0
    )
    return office


async def dead_receiver(office: Office, options: JsonObject | None = None) -> Subscription:
    office.sink.answers[DEAD] = always(TRY_LATER)
    return await office.subscribe(DEAD, options=options)


async def parked(office: Office, subscription: Subscription) -> list[OwedDelivery]:
    works = [read_work(each.body) for each in await office.all_in(parked_ref(subscription.id))]
    return [work for work in works if isinstance(work, OwedDelivery)]


async def current(office: Office, subscription: Subscription) -> Subscription:
    found = await office.storage.subscriptions.get(QUEUE, subscription.id, now=office.clock.now())
    assert found is not None
    return found


async def post_many(office: Office, count: int) -> None:
    for number in range(count):
        await office.post(b"%d" % number)


async def pass_time(office: Office, *, seconds: int, step: int = 60) -> None:
    """Let an engine work, whose clock goes on in steps."""
    async with office.open():
        await pass_time_with(office, seconds=seconds, step=step)


async def pass_time_with(office: Office, *, seconds: int, step: int = 60) -> None:
    """The same with the engine that is open."""
    for _ in range(0, seconds, step):
        office.clock.advance(seconds=step)
        await office.settled()


def count_writes(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Messages written to internal queues from now on, by kind of queue."""
    written: Counter[str] = Counter()
    post = storage.messages.post

    async def counted(ref, post_, *, now):  # type: ignore[no-untyped-def]
        if ref.project == "":
            written[ref.name.partition(".")[0]] += len(post_.messages_for(None))
        return await post(ref, post_, now=now)

    monkeypatch.setattr(storage.messages, "post", counted)
    return written


async def test_deliveries_to_a_failing_receiver_are_written_once_however_long_it_fails(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await dead_receiver(office, HOURLY)
    await post_many(office, 100)
    async with office.open():
        await office.settled()
    assert len(await parked(office, subscription)) >= 60
    tries = len(office.sink.deliveries)

    written = count_writes(office.storage, monkeypatch)
    await pass_time(office, seconds=3600)

    assert 30 <= len(office.sink.deliveries) - tries <= 130
    # The replay that comes back, and the delivery that it tried, twice.
    assert sum(written.values()) <= 400
    assert (await current(office, subscription)).replay_id


async def test_a_receiver_that_recovers_gets_what_is_parked_once_and_oldest_first(
    office: Office,
) -> None:
    subscription = await dead_receiver(office)
    await post_many(office, 60)
    async with office.open():
        await office.settled()
    waiting = [int(bytes(each.message.body)) for each in await parked(office, subscription)]
    office.sink.deliveries.clear()
    office.sink.answers[DEAD] = always(DELIVERED)

    await pass_time(office, seconds=400, step=100)

    got = [int(body) for body in office.sink.bodies(DEAD)]
    assert [each for each in got if each in waiting] == waiting
    assert sorted(got) == list(range(60))
    assert await parked(office, subscription) == []
    assert (await current(office, subscription)).replay_id is None
    await office.post(b"60")
    await office.work_off()
    assert office.sink.bodies(DEAD)[-1] == b"60"


async def test_a_receiver_that_recovers_is_not_sent_everything_at_once(office: Office) -> None:
    await dead_receiver(office)
    await post_many(office, 60)
    async with office.open():
        await office.settled()
    office.sink.most_under_way_to.clear()

    async def answer(_delivery: Delivery) -> Outcome:
        await asyncio.sleep(0)
        return DELIVERED

    office.sink.answers[DEAD] = answer
    await pass_time(office, seconds=120)

    assert 1 < office.sink.most_under_way_to[DEAD] <= 4


async def test_posts_to_a_parked_subscription_are_parked_untried_by_any_engine(
    office: Office,
) -> None:
    subscription = await dead_receiver(office)
    await post_many(office, 20)
    async with office.open():
        await office.settled()
    before, tries = len(await parked(office, subscription)), len(office.sink.deliveries)

    async with office.open():
        await post_many(office, 30)
        await until_stored(lambda: _no_jobs(office))

    assert len(await parked(office, subscription)) == before + 30
    assert len(office.sink.deliveries) == tries


async def _no_jobs(office: Office) -> bool:
    return not await office.owed_jobs()


async def test_tries_that_fall_due_while_it_fails_count_as_made_and_giving_up_is_told_once(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    subscription = await dead_receiver(office, FEW_RETRIES)
    await post_many(office, 100)

    with caplog.at_level(logging.WARNING):
        await pass_time(office, seconds=600)

    given_up = await office.undelivered(subscription)
    assert len(given_up) == 100
    assert {record.attempts for record in given_up} == {5}
    assert len(office.sink.deliveries) < 40
    assert await parked(office, subscription) == []
    told = [each.__dict__ for each in caplog.records if "given_up" in each.__dict__["action"]]
    assert sum(each.get("count", 1) for each in told) == 100
    assert len(told) < 40


async def test_a_parked_delivery_goes_on_with_the_try_that_is_due(office: Office) -> None:
    await dead_receiver(office, HOURLY)
    await post_many(office, 20)
    await pass_time(office, seconds=9000, step=300)
    office.sink.deliveries.clear()
    office.sink.answers[DEAD] = always(DELIVERED)

    await pass_time(office, seconds=120)

    # Tries at once, after one hour and after two fell due meanwhile; some were the probe once more.
    assert {each.attempt for each in office.sink.deliveries} == {4, 5}


async def test_what_is_too_old_is_given_up(office: Office) -> None:
    office.settings = Settings(
        delivery_breaker_failures=3, delivery_max_age_seconds=1800, retry_jitter=0
    )
    subscription = await dead_receiver(office, HOURLY)
    await post_many(office, 50)

    await pass_time(office, seconds=2400)

    assert len(await office.undelivered(subscription)) == 50
    assert await parked(office, subscription) == []
    assert (await current(office, subscription)).replay_id is None


async def test_two_engines_have_one_probe(office: Office) -> None:
    subscription = await dead_receiver(office)
    await post_many(office, 40)
    async with office.open(), office.open():
        await post_many(office, 40)
        await office.settled()
        office.sink.deliveries.clear()
        office.sink.answers[DEAD] = hanging = Hanging(TRY_LATER)
        office.clock.advance(seconds=2)
        await until(lambda: len(office.sink.deliveries) == 1)
        office.clock.advance(seconds=2)
        await asyncio.sleep(0.2)
        assert len(office.sink.deliveries) == 1
        hanging.let_go.set()

    assert (await current(office, subscription)).replay_id


async def test_what_is_parked_goes_with_its_subscription(office: Office) -> None:
    subscription = await dead_receiver(office)
    await post_many(office, 20)
    async with office.open():
        await office.settled()
    assert await parked(office, subscription)

    await office.storage.subscriptions.delete(QUEUE, subscription.id)

    assert await parked(office, subscription) == []
    await pass_time(office, seconds=120)
    assert await office.owed_jobs() == []
    assert await office.owed_deliveries() == []


async def test_a_replay_whose_worker_dies_loses_nothing(office: Office) -> None:
    subscription = await dead_receiver(office)
    await post_many(office, 40)
    async with office.open():
        await office.settled()
    office.sink.answers[DEAD] = Hanging()
    office.clock.advance(seconds=60)
    engine = office.engine()
    run = asyncio.create_task(engine.run())
    tries = len(office.sink.deliveries)
    await office.sink.received(tries + 1)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)

    office.sink.deliveries.clear()
    office.sink.answers[DEAD] = always(DELIVERED)
    await pass_time(office, seconds=600)

    assert {int(body) for body in office.sink.bodies(DEAD)} == set(range(40))
    assert await parked(office, subscription) == []


async def test_a_subscription_that_is_changed_gets_what_is_parked_at_its_new_receiver(
    office: Office,
) -> None:
    subscription = await dead_receiver(office)
    await post_many(office, 20)
    async with office.open():
        await office.settled()
    waiting = len(await parked(office, subscription))

    def moved(present: Subscription) -> Subscription:
        return Subscription(
            **{field: getattr(present, field) for field in present.__struct_fields__}
            | {"subscriber": "http://well"}
        )

    await office.storage.subscriptions.update(QUEUE, subscription.id, moved, now=office.clock.now())
    await pass_time(office, seconds=120)

    assert len(office.sink.to("http://well")) >= waiting
    assert await parked(office, subscription) == []


def unconfirmed(present: Subscription) -> Subscription:
    return msgspec.structs.replace(present, confirmed=False)


@pytest.mark.parametrize("knows_that_it_fails", [True, False])
async def test_a_subscriber_that_is_not_confirmed_any_more_gets_no_parked_delivery(
    office: Office, knows_that_it_fails: bool
) -> None:
    """A receiver that left, or another one in its place, did not ask for it."""
    office.settings = office.settings.model_copy(update={"require_confirmation": True})
    office.sink.answers[DEAD] = always(TRY_LATER)
    subscription = await office.subscribe(DEAD, confirmed=True)
    await post_many(office, 60)
    async with office.open():
        await office.settled()
        waiting, tries = len(await parked(office, subscription)), len(office.sink.deliveries)
        await office.storage.subscriptions.update(
            QUEUE, subscription.id, unconfirmed, now=office.clock.now()
        )
        if knows_that_it_fails:
            await pass_time_with(office, seconds=120)
    if not knows_that_it_fails:
        office.clock.advance(seconds=60)
        async with office.open():
            await office.settled()

    assert waiting >= 40
    assert len(office.sink.deliveries) == tries
    assert office.counts.dropped["unconfirmed"] >= waiting
    assert await parked(office, subscription) == []


@pytest.mark.parametrize(
    ("failed_after_seconds", "attempt"), [(-1, 1), (0, 2), (4, 2), (5, 3), (305, 4), (10**7, None)]
)
def test_tries_count_as_made_until_the_last_failure(
    office: Office, failed_after_seconds: int, attempt: int | None
) -> None:
    due_at = office.clock.now()

    after = attempt_after(
        STANDARD_WEBHOOKS,
        attempt=1,
        due_at=due_at,
        failed_at=due_at + timedelta(seconds=failed_after_seconds),
    )

    assert after == attempt


def test_a_delivery_without_retries_has_had_its_try_when_the_receiver_failed_since(
    office: Office,
) -> None:
    now = office.clock.now()
    none = Steps(())

    assert attempt_after(none, attempt=1, due_at=now, failed_at=now) is None
    assert attempt_after(none, attempt=1, due_at=now, failed_at=now - timedelta(seconds=1)) == 1
