"""The deliveries that subscribers get, and their times."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.partitions import partition
from tests.workers.office import (
    DEADLINE_SECONDS,
    DELIVERED,
    GONE,
    OUTBOX,
    QUEUE,
    REFUSED,
    RETRY,
    TRY_LATER,
    Hanging,
    Office,
    always,
    until,
    until_stored,
)
from workers.consumer import MAX_PER_CLAIM
from workers.engine import LOOK_SECONDS
from zaqar_notify.delivery import InternalPost, confirmation_job, replay_job
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.poison import MIN_POISON_CLAIMS
from zaqar_notify.models import (
    Delivery,
    MessageType,
    NewMessage,
    Outcome,
    Subscription,
    Verdict,
)
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import POISON_REF, held_ref, outbox_ref, queues_of_subscription

ONE_RETRY = {
    "_retry_policy": {
        "retries_with_no_delay": 0,
        "minimum_delay_retries": 1,
        "minimum_delay": 5,
        "maximum_delay": 15,
        "maximum_delay_retries": 0,
        "retry_backoff_function": "arithmetic",
    }
}


MORE_PARTITIONS = 8
OTHER_PARTITION = partition_of(QUEUE, MORE_PARTITIONS)

PROMISED_SECONDS = 15
"""docs/cluster.md, Workers."""


@pytest.fixture
def with_more_partitions(office: Office) -> Office:
    """A process of the same cluster that was told another number."""
    return Office(office.storage, office.clock, Settings(delivery_partitions=MORE_PARTITIONS))


async def test_every_subscriber_gets_a_message_once(office: Office) -> None:
    for number in range(250):
        await office.subscribe(f"http://receiver/{number}")
    await office.post(b'"a"', b'"b"')

    await office.work_off()

    assert len(office.sink.deliveries) == 500
    assert all(
        office.sink.bodies(f"http://receiver/{number}") == [b'"a"', b'"b"'] for number in range(250)
    )
    assert await office.all_in(OUTBOX) == []
    assert await office.all_in(RETRY) == []


async def test_receivers_are_told_the_hosts_time(office: Office) -> None:
    office.clock.host_ahead = timedelta(hours=1)
    await office.subscribe("http://receiver/1")
    await office.post(b"1")

    await office.work_off()

    [delivery] = office.sink.deliveries
    assert delivery.sent_at == office.clock.now() + timedelta(hours=1)


async def test_a_post_without_subscribers_owes_nothing(office: Office) -> None:
    await office.post(b"1")

    assert await office.all_in(OUTBOX) == []


async def test_a_running_engine_delivers_what_is_posted(office: Office) -> None:
    await office.subscribe("http://receiver")

    async with office.open() as engine:
        await until(lambda: engine.in_hand == 0)
        await office.post(b"1")
        await office.sink.received(1)
        await office.post(b"2")
        await office.sink.received(2)

    assert office.sink.bodies("http://receiver") == [b"1", b"2"]
    assert office.counts.tries == {("http", "delivered"): 2}
    assert office.sink.is_closed


async def test_jobs_in_partitions_of_other_processes_are_delivered(
    office: Office, with_more_partitions: Office
) -> None:
    await office.subscribe("http://receiver")
    await with_more_partitions.post(b'"before"')

    async with office.open():
        await office.sink.received(1)
        await with_more_partitions.post(b'"meanwhile"')
        await office.sink.received(2)

    assert office.sink.bodies("http://receiver") == [b'"before"', b'"meanwhile"']
    assert await office.all_in(outbox_ref(OTHER_PARTITION)) == []


def test_by_default_a_dead_worker_s_deliveries_begin_again_within_15_seconds() -> None:
    """At its death a lease lasts no longer than when it was new, and the others look for due work by
    themselves, should nothing tell them that it has lapsed."""
    assert Settings().delivery_lease_seconds + LOOK_SECONDS < PROMISED_SECONDS


async def test_a_ring_for_a_partition_of_others_has_it_looked_for(
    office: Office, with_more_partitions: Office
) -> None:
    await office.subscribe("http://receiver")
    async with office.open() as engine:
        await until(lambda: engine.in_hand == 0)
        await with_more_partitions.post(b"1")

        office.doorbell.ring(OTHER_PARTITION)

        async with asyncio.timeout(LOOK_SECONDS / 2):
            await office.sink.received(1)


@pytest.mark.parametrize(
    "body",
    [
        b"1e999",
        b"-0.0",
        b"9007199254740993",
        b"1.10",
        b'{"b" : 1,\t"a":2, "b": 3}',
        b'"\\u00e9\\ud83d\\ude00"',
        '"é😀"'.encode(),
        b"null",
        b'""',
        b"[" * 200 + b"]" * 200,
    ],
)
async def test_a_body_reaches_the_receiver_as_the_bytes_it_was(office: Office, body: bytes) -> None:
    await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(TRY_LATER)
    await office.post(body)

    await office.work_off()

    first, second, *_ = office.sink.deliveries
    assert first.message.body == second.message.body == body
    assert b'"body": %b, ' % body in first.payload
    assert first.payload == second.payload


async def test_a_failed_delivery_is_tried_at_the_policys_instants_and_then_recorded(
    office: Office,
) -> None:
    subscription = await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(TRY_LATER)
    started_at = office.clock.now()
    [message_id] = await office.post(b'"a"')

    while not await office.undelivered(subscription):
        await office.work_off()
        office.clock.advance(seconds=1)

    tries = [
        (each.attempt, (each.sent_at - started_at).total_seconds())
        for each in office.sink.deliveries
    ]
    waits = [0, 0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30]
    assert tries == [(number + 1, sum(waits[: number + 1])) for number in range(15)]
    [record] = await office.undelivered(subscription)
    assert (record.verdict, record.status, record.detail) == (Verdict.TRY_LATER, 503, "busy")
    assert (record.attempts, record.message_id, record.queue) == (15, message_id, "orders")
    assert bytes(record.payload) == office.sink.deliveries[0].payload
    assert await office.all_in(RETRY) == []


async def test_a_delivery_s_delay_is_counted_from_when_it_was_due_first(office: Office) -> None:
    await office.subscribe("http://receiver")
    answers = iter([Outcome(Verdict.TRY_LATER, retry_after_seconds=100), DELIVERED])

    async def answer(_delivery: Delivery) -> Outcome:
        return next(answers)

    office.sink.answers["http://receiver"] = answer
    await office.post(b"1", delay=30)
    office.clock.advance(seconds=30)
    await office.work_off()
    office.clock.advance(seconds=100)

    async with office.open():
        await office.settled()

    tally = office.counts.delays["http"]
    assert (tally.count, tally.seconds) == (1, 100)


async def test_only_the_subscription_that_failed_is_tried_again(office: Office) -> None:
    await office.subscribe("http://well")
    await office.subscribe("http://ill")
    answers = iter([TRY_LATER, DELIVERED])

    async def answer(_delivery: Delivery) -> Outcome:
        return next(answers)

    office.sink.answers["http://ill"] = answer
    await office.post(b"1")

    await office.work_off()

    assert len(office.sink.to("http://well")) == 1
    assert [each.attempt for each in office.sink.to("http://ill")] == [1, 2]


async def test_a_message_that_fails_does_not_stop_the_ones_after_it(office: Office) -> None:
    await office.subscribe("http://receiver", options=ONE_RETRY)

    async def answer(delivery: Delivery) -> Outcome:
        return TRY_LATER if delivery.message.body == b"1" else DELIVERED

    office.sink.answers["http://receiver"] = answer
    await office.post(b"1", b"2", b"3")

    await office.work_off()

    assert office.sink.bodies("http://receiver") == [b"1", b"2", b"3"]
    assert [bytes(owed.message.body) for owed in await office.owed_deliveries()] == [b"1"]


async def test_the_receivers_retry_after_is_obeyed(office: Office) -> None:
    await office.subscribe("http://receiver")
    busy = Outcome(Verdict.TRY_LATER, status=429, retry_after_seconds=120)
    office.sink.answers["http://receiver"] = always(busy)
    await office.post(b"1")

    await office.work_off()
    office.clock.advance(seconds=119)
    await office.work_off()
    assert len(office.sink.deliveries) == 1

    office.clock.advance(seconds=1)
    await office.work_off()
    assert len(office.sink.deliveries) == 2


async def test_a_delivery_knows_when_its_message_was_posted_in_each_attempt(
    office: Office,
) -> None:
    """After a delay, in a retry, and of a request to confirm."""
    office.settings = Settings.model_validate({"signed_url_secrets": "key"})
    subscription = await office.subscribe("http://receiver", options=ONE_RETRY)
    office.sink.answers["http://receiver"] = always(TRY_LATER)
    posted_at = office.clock.now()
    await office.post(b"1", delay=60)
    await ask_to_confirm(office, subscription)

    for _ in range(3):
        await office.work_off()
        office.clock.advance(seconds=61)

    second = {each.kind for each in office.sink.deliveries if each.attempt == 2}
    assert second == {MessageType.NOTIFICATION, MessageType.SUBSCRIPTION_CONFIRMATION}
    assert {each.posted_at for each in office.sink.deliveries} == {posted_at}


async def test_what_is_postponed_spends_no_try_and_does_not_count_against_the_receiver(
    office: Office,
) -> None:
    """More often than the policy has tries, and than makes a receiver suspect."""
    subscription = await office.subscribe("http://receiver", options=ONE_RETRY)
    postponed = Outcome(Verdict.POSTPONED, retry_after_seconds=7)
    office.sink.answers["http://receiver"] = always(postponed)
    await office.post(b"1", b"2")

    for _ in range(10):
        await office.work_off()
        office.clock.advance(seconds=7)
    assert {each.attempt for each in office.sink.deliveries} == {1}
    assert len(await office.owed_deliveries()) == 2

    office.sink.answers["http://receiver"] = always(DELIVERED)
    await office.work_off()
    assert await office.owed_deliveries() == []
    assert await office.undelivered(subscription) == []


async def test_what_is_postponed_until_it_is_too_old_is_given_up(office: Office) -> None:
    office.settings = Settings(delivery_max_age_seconds=60, retry_jitter=0)
    subscription = await office.subscribe("http://receiver")
    postponed = Outcome(Verdict.POSTPONED, detail="the relay is away", retry_after_seconds=25)
    office.sink.answers["http://receiver"] = always(postponed)
    await office.post(b"1", b"2")

    for _ in range(4):
        await office.work_off()
        office.clock.advance(seconds=25)

    assert await office.owed_deliveries() == []
    records = await office.undelivered(subscription)
    assert [(each.verdict, each.detail, each.attempts) for each in records] == [
        (Verdict.POSTPONED, "the relay is away", 0)
    ] * 2


async def test_a_request_to_confirm_is_not_postponed_beyond_its_links_end(office: Office) -> None:
    office.settings = Settings.model_validate(
        {"require_confirmation": True, "signed_url_secrets": "key"}
    )
    subscription = await office.subscribe("http://receiver", ttl=60)
    postponed = Outcome(Verdict.POSTPONED, retry_after_seconds=300)
    office.sink.answers["http://receiver"] = always(postponed)
    await ask_to_confirm(office, subscription)

    await office.work_off()

    assert await office.owed_deliveries() == []
    assert len(await office.undelivered(subscription)) == 1


async def test_all_deliveries_to_a_receiver_wait_as_long_as_it_asked_for_one(
    office: Office,
) -> None:
    """Those of the same post, of later posts, and of another queue subscription's retries."""
    await office.subscribe("http://receiver")
    busy = Outcome(Verdict.TRY_LATER, status=429, retry_after_seconds=120)
    office.sink.answers["http://receiver"] = always(busy)

    async with office.open():
        await office.post(b"1", b"2", b"3")
        await office.settled()
        await office.post(b"4")
        await office.settled()
        # A retry that falls due too early is put off again: its receiver's pause is not over.
        office.clock.advance(seconds=60)
        await office.settled()

    assert office.sink.bodies("http://receiver") == [b"1"]
    attempts = {bytes(owed.message.body): owed.attempt for owed in await office.owed_deliveries()}
    assert attempts == {b"1": 2, b"2": 1, b"3": 1, b"4": 1}

    office.sink.answers.clear()
    office.clock.advance(seconds=120)
    await office.work_off()
    assert sorted(office.sink.bodies("http://receiver")[1:]) == [b"1", b"2", b"3", b"4"]


async def test_a_pause_of_one_receiver_holds_up_no_other_and_is_told_once(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await office.subscribe("http://busy")
    await office.subscribe("http://well")
    busy = Outcome(Verdict.TRY_LATER, status=503, retry_after_seconds=120)
    office.sink.answers["http://busy"] = always(busy)

    async with office.open():
        for body in (b"1", b"2"):
            await office.post(body)
            await office.settled()

    assert office.sink.bodies("http://busy") == [b"1"]
    assert office.sink.bodies("http://well") == [b"1", b"2"]
    [told] = [each for each in caplog.records if getattr(each, "action", "") == "endpoint_paused"]
    assert vars(told)["seconds"] == 120


async def test_a_refused_delivery_is_recorded_and_not_repeated(office: Office) -> None:
    subscription = await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(REFUSED)
    await office.post(b"1")

    await office.work_off()

    [record] = await office.undelivered(subscription)
    assert (record.verdict, record.status, record.attempts) == (Verdict.REFUSED, 404, 1)
    assert await office.all_in(RETRY) == []


async def test_a_subscriber_of_a_scheme_without_sink_is_recorded(office: Office) -> None:
    subscription = await office.subscribe("gopher://receiver")
    await office.post(b"1")

    await office.work_off()

    [record] = await office.undelivered(subscription)
    assert record.detail == "gopher is not in subscriber_types"


async def test_gone_disables_the_subscription_and_holds_until_replayed(office: Office) -> None:
    subscription = await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(GONE)
    await office.post(b"1", b"2")
    await office.work_off()
    await office.post(b"3")
    await office.work_off()
    assert len(office.sink.deliveries) == 1
    assert len(await office.all_in(held_ref(subscription.id))) == 3

    del office.sink.answers["http://receiver"]
    await enable(office, subscription.id)
    ref, job = replay_job(subscription, office.settings)
    await office.storage.post(ref, InternalPost([job]), now=office.clock.now())
    await office.work_off()

    assert office.sink.bodies("http://receiver") == [b"1", b"1", b"2", b"3"]
    assert await office.all_in(held_ref(subscription.id)) == []


async def enable(office: Office, subscription_id: str) -> None:
    await office.storage.subscriptions.update(
        QUEUE,
        subscription_id,
        lambda subscription: replace(subscription, disabled_at=None),
        now=office.clock.now(),
    )


async def test_deliveries_of_a_replay_whose_worker_died_are_replayed_later(
    office: Office,
) -> None:
    subscription = await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(GONE)
    await office.post(b"1")
    await office.work_off()
    del office.sink.answers["http://receiver"]
    await enable(office, subscription.id)
    lease = office.settings.delivery_lease_seconds
    await office.storage.claim(
        held_ref(subscription.id),
        claim_id="the dead worker's",
        ttl=lease,
        grace=0,
        limit=1,
        now=office.clock.now(),
    )

    ref, job = replay_job(subscription, office.settings)
    await office.storage.post(ref, InternalPost([job]), now=office.clock.now())
    await office.work_off()
    assert len(office.sink.deliveries) == 1

    office.clock.advance(seconds=lease)
    await office.work_off()
    assert office.sink.bodies("http://receiver") == [b"1", b"1"]
    assert await office.all_in(OUTBOX) == []


async def test_what_is_held_after_its_subscription_was_enabled_again_is_delivered(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enabled between the receiver's answer and the record of the held delivery."""
    subscription = await office.subscribe("http://receiver")
    answers = iter([GONE, DELIVERED])

    async def answer(_delivery: Delivery) -> Outcome:
        return next(answers)

    office.sink.answers["http://receiver"] = answer
    update = office.storage.subscriptions.update

    async def update_and_enable(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        disabled = await update(*args, **kwargs)
        await enable(office, subscription.id)
        return disabled

    monkeypatch.setattr(office.storage.subscriptions, "update", update_and_enable)
    await office.post(b"1")
    await office.work_off()

    assert office.sink.bodies("http://receiver") == [b"1", b"1"]
    assert await office.all_in(held_ref(subscription.id)) == []


async def test_a_late_answer_of_the_former_receiver_disables_no_subscription(
    office: Office,
) -> None:
    subscription = await office.subscribe("http://former")
    hanging = office.sink.answers["http://former"] = Hanging(GONE)
    await office.post(b"1")

    async with office.open():
        await office.sink.received(1)
        await office.storage.subscriptions.update(
            QUEUE,
            subscription.id,
            lambda current: replace(current, subscriber="http://present"),
            now=office.clock.now(),
        )
        hanging.let_go.set()
        await office.settled()

    assert office.sink.bodies("http://present") == [b"1"]


async def test_a_subscription_made_before_the_clock_was_put_back_is_served(office: Office) -> None:
    office.clock.advance(seconds=3600)
    await office.subscribe("http://receiver")
    office.clock.advance(seconds=-3600)

    await office.post(b"1")
    await office.work_off()

    assert office.sink.bodies("http://receiver") == [b"1"]


async def test_what_is_held_by_an_old_look_at_its_subscription_is_delivered(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was disabled when it was read, and enabled again before anything was held for it."""
    await office.subscribe("http://receiver")
    look = office.storage.subscriptions.list

    async def old_look(*args: Any, **kwargs: Any) -> Any:
        return [replace(one, disabled_at=one.created_at) for one in await look(*args, **kwargs)]

    monkeypatch.setattr(office.storage.subscriptions, "list", old_look)
    await office.post(b"1", b"2")
    await office.post(b"3")
    await office.work_off()

    assert sorted(office.sink.bodies("http://receiver")) == [b"1", b"2", b"3"]


async def test_replay_of_a_disabled_subscription_leaves_what_is_held(office: Office) -> None:
    subscription = await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(GONE)
    await office.post(b"1")
    await office.work_off()

    ref, job = replay_job(subscription, office.settings)
    await office.storage.post(ref, InternalPost([job]), now=office.clock.now())
    await office.work_off()

    assert len(await office.all_in(held_ref(subscription.id))) == 1
    assert len(office.sink.deliveries) == 1


async def test_a_retry_for_a_subscription_disabled_meanwhile_is_held(office: Office) -> None:
    subscription = await office.subscribe("http://receiver", options=ONE_RETRY)
    answers = iter([TRY_LATER, GONE])

    async def answer(_delivery: Delivery) -> Outcome:
        return next(answers)

    office.sink.answers["http://receiver"] = answer
    await office.post(b"1")
    await office.work_off()
    await office.post(b"2")
    await office.work_off()

    office.clock.advance(seconds=5)
    await office.work_off()

    assert len(office.sink.deliveries) == 2
    assert len(await office.all_in(held_ref(subscription.id))) == 2


async def test_unconfirmed_subscribers_are_skipped_when_confirmation_is_required(
    office: Office,
) -> None:
    office.settings = Settings(require_confirmation=True)
    await office.subscribe("http://unconfirmed")
    await office.subscribe("http://confirmed", confirmed=True)
    await office.post(b"1")

    await office.work_off()

    assert [each.subscription.subscriber for each in office.sink.deliveries] == ["http://confirmed"]


async def test_a_confirmation_reaches_the_unconfirmed_and_is_retried(office: Office) -> None:
    office.settings = Settings.model_validate(
        {"require_confirmation": True, "signed_url_secrets": "key"}
    )
    subscription = await office.subscribe("http://receiver")
    answers = iter([TRY_LATER, DELIVERED])

    async def answer(_delivery: Delivery) -> Outcome:
        return next(answers)

    office.sink.answers["http://receiver"] = answer
    await ask_to_confirm(office, subscription)

    await office.work_off()

    first, second = office.sink.deliveries
    assert first.kind is second.kind is MessageType.SUBSCRIPTION_CONFIRMATION
    assert first.payload == second.payload
    assert b'"Message_Type": "SubscriptionConfirmation"' in first.payload
    assert first.id == second.id


async def test_who_has_confirmed_meanwhile_is_not_asked_again(office: Office) -> None:
    office.settings = Settings.model_validate(
        {"require_confirmation": True, "signed_url_secrets": "key"}
    )
    subscription = await office.subscribe("http://receiver", confirmed=True)
    await ask_to_confirm(office, subscription)

    await office.work_off()

    assert office.sink.deliveries == []


async def ask_to_confirm(office: Office, subscription: Subscription) -> None:
    ref, job = confirmation_job(
        subscription,
        MessageType.SUBSCRIPTION_CONFIRMATION,
        path="/confirm",
        settings=office.settings,
        now=office.clock.now(),
    )
    await office.storage.post(ref, InternalPost([job]), now=office.clock.now())


async def test_a_subscription_deleted_before_the_retry_gets_no_more(office: Office) -> None:
    subscription = await office.subscribe("http://receiver", options=ONE_RETRY)
    office.sink.answers["http://receiver"] = always(TRY_LATER)
    await office.post(b"1")
    await office.work_off()
    await office.storage.subscriptions.delete(QUEUE, subscription.id)

    office.clock.advance(seconds=5)
    await office.work_off()

    assert len(office.sink.deliveries) == 1
    assert await office.all_in(RETRY) == []


async def test_a_subscription_made_after_the_post_does_not_get_it(office: Office) -> None:
    await office.subscribe("http://early")
    await office.post(b"1")
    office.clock.advance(seconds=60)
    await office.subscribe("http://late")

    await office.work_off()

    assert [each.subscription.subscriber for each in office.sink.deliveries] == ["http://early"]


async def test_a_delayed_message_is_notified_exactly_when_due(office: Office) -> None:
    await office.subscribe("http://receiver")
    await office.post(b"1", delay=30)

    office.clock.advance(seconds=29.999)
    await office.work_off()
    assert office.sink.deliveries == []

    office.clock.advance(seconds=0.001)
    await office.work_off()
    assert office.sink.deliveries[0].payload == (
        b'{"ttl": 3600, "delay": 30, "body": 1, "Message_Type": "Notification", '
        b'"queue_name": "orders"}'
    )


async def test_a_delayed_message_is_notified_at_once_when_the_setting_says_so(
    office: Office,
) -> None:
    office.settings = Settings(notify_delayed_at_once=True)
    await office.subscribe("http://receiver")
    await office.post(b"1", delay=30)

    await office.work_off()

    assert len(office.sink.deliveries) == 1


async def test_the_delivery_id_is_the_same_over_retries_and_another_for_each_pair(
    office: Office,
) -> None:
    await office.subscribe("http://one")
    await office.subscribe("http://two")
    office.sink.answers["http://one"] = always(TRY_LATER)
    await office.post(b"1", b"2")

    for _ in range(3):
        await office.work_off()
        office.clock.advance(seconds=5)

    ids = {
        (each.subscription.subscriber, each.message.body): {
            other.id
            for other in office.sink.to(each.subscription.subscriber)
            if other.message.body == each.message.body
        }
        for each in office.sink.deliveries
    }
    assert all(len(same) == 1 for same in ids.values())
    assert len(set.union(*ids.values())) == 4
    assert all("." not in each.id for each in office.sink.deliveries)


async def test_a_worker_that_dies_between_tries_and_deletion_leaves_no_subscriber_out(
    office: Office,
) -> None:
    await office.subscribe("http://quick")
    await office.subscribe("http://slow")
    office.sink.answers["http://slow"] = Hanging()
    await office.post(b"1")
    run = asyncio.create_task(office.engine().run())
    await office.sink.received(2)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run

    del office.sink.answers["http://slow"]
    office.clock.advance(seconds=office.settings.delivery_lease_seconds)
    await office.work_off()

    assert len(office.sink.to("http://quick")) == 2
    assert len({each.id for each in office.sink.to("http://quick")}) == 1
    assert len(office.sink.to("http://slow")) == 2
    assert await office.all_in(OUTBOX) == []


async def test_drain_gives_back_what_it_could_not_finish_uncounted(office: Office) -> None:
    await office.subscribe("http://slow")
    office.sink.answers["http://slow"] = Hanging()
    await office.post(b"1")

    async with office.open(drain_seconds=0.01):
        await office.sink.received(1)

    [job] = await office.all_in(OUTBOX)
    assert (job.claim_id, job.claim_count) == (None, 0)


async def test_drain_waits_for_tries_under_way(office: Office) -> None:
    await office.subscribe("http://slow")
    hanging = office.sink.answers["http://slow"] = Hanging()
    assert isinstance(hanging, Hanging)
    await office.post(b"1")
    engine = office.engine()
    run = asyncio.create_task(engine.run())
    await office.sink.received(1)

    drain = asyncio.create_task(engine.drain(20))
    await asyncio.sleep(0)
    assert not drain.done()
    hanging.let_go.set()
    await drain
    await run

    assert await office.all_in(OUTBOX) == []


async def test_a_full_engine_that_stops_takes_nothing_more(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.settings = Settings(delivery_concurrency=1)
    await office.subscribe("http://slow")
    hanging = office.sink.answers["http://slow"] = Hanging()
    for number in range(3):
        await office.post(b"%d" % number)
    async with office.open() as engine:
        await office.sink.received(1)
        claims = office.storage.claims
        limits: list[int] = []
        create = claims.create

        async def noted(*args: Any, **kwargs: Any) -> Any:
            limits.append(kwargs["limit"])
            return await create(*args, **kwargs)

        monkeypatch.setattr(claims, "create", noted)
        drain = asyncio.create_task(engine.drain(DEADLINE_SECONDS))
        await asyncio.sleep(0)
        hanging.let_go.set()
        await drain

    assert limits == []
    assert len(office.sink.deliveries) == 1


async def test_an_engine_that_was_drained_before_it_ran_ends_at_once(office: Office) -> None:
    engine = office.engine()
    await engine.drain(1)

    await asyncio.wait_for(engine.run(), timeout=5)

    assert engine.in_hand == 0


@pytest.mark.parametrize(
    ("receivers", "most"),
    [(50, 15), (4, 4 * 3)],  # Of one project: a quarter of the tries is kept for the next.
)
async def test_tries_under_way_never_pass_the_bounds(
    office: Office, receivers: int, most: int
) -> None:
    office.settings = Settings(delivery_concurrency=20, delivery_concurrency_per_endpoint=3)

    async def answer(_delivery: Delivery) -> Outcome:
        await asyncio.sleep(0)
        return DELIVERED

    for number in range(receivers):
        await office.subscribe(f"http://receiver/{number}")
        office.sink.answers[f"http://receiver/{number}"] = answer
    for number in range(200):
        await office.post(b"%d" % number)
    most_in_hand = 0

    async with office.open() as engine:
        while len(office.sink.deliveries) < 200 * receivers:
            most_in_hand = max(most_in_hand, engine.in_hand)
            await asyncio.sleep(0)

    assert office.sink.most_under_way == most
    assert max(office.sink.most_under_way_to.values()) <= 3
    assert most_in_hand <= 2 * 20
    assert len({each.id for each in office.sink.deliveries}) == 200 * receivers


async def test_a_receiver_that_hangs_does_not_delay_the_others(office: Office) -> None:
    office.settings = Settings(delivery_concurrency=8, delivery_concurrency_per_endpoint=2)
    await office.subscribe("http://hanging")
    await office.subscribe("http://well")
    hanging = office.sink.answers["http://hanging"] = Hanging()
    assert isinstance(hanging, Hanging)

    async with office.open():
        for number in range(100):
            await office.post(b"%d" % number)
        await until(lambda: len(office.sink.to("http://well")) == 100)
        assert len(office.sink.to("http://hanging")) == 2
        hanging.let_go.set()

    assert office.sink.bodies("http://well") == [b"%d" % number for number in range(100)]


async def test_deliveries_to_a_hanging_receiver_go_to_the_retry_queue_with_their_attempt(
    office: Office,
) -> None:
    office.settings = Settings(delivery_concurrency=8, delivery_concurrency_per_endpoint=2)
    await office.subscribe("http://hanging")
    hanging = office.sink.answers["http://hanging"] = Hanging()
    assert isinstance(hanging, Hanging)

    async with office.open():
        for number in range(20):
            await office.post(b"%d" % number)

        async def all_but_two_are_put_off() -> bool:
            return len(await office.owed_deliveries()) == 18

        await until_stored(all_but_two_are_put_off)
        hanging.let_go.set()

    assert {owed.attempt for owed in await office.owed_deliveries()} == {1}
    assert await office.all_in(OUTBOX) == []
    office.clock.advance(seconds=60)
    await office.work_off()
    assert sorted(int(body) for body in office.sink.bodies("http://hanging")) == list(range(20))


async def test_a_receiver_that_keeps_failing_gets_one_try_at_a_time(office: Office) -> None:
    office.settings = Settings(delivery_breaker_failures=3, delivery_concurrency_per_endpoint=4)
    await office.subscribe("http://ill", options=ONE_RETRY)
    office.sink.answers["http://ill"] = always(TRY_LATER)
    for _ in range(3):
        await office.post(b"1")
    under_way = 0
    most = 0

    async def failing_slowly(_delivery: Delivery) -> Outcome:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return TRY_LATER

    async with office.open():
        await office.sink.received(3)
        await office.settled()
        office.sink.answers["http://ill"] = failing_slowly
        for _ in range(8):
            await office.post(b"2")
        office.clock.advance(seconds=2)
        office.doorbell.ring(partition())
        await office.sink.received(4)
        await office.settled()

    assert most == 1


async def test_a_receiver_that_keeps_failing_is_warned_of_once_and_does_not_fill_the_log(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.settings = Settings(delivery_breaker_failures=3, delivery_concurrency_per_endpoint=2)
    await office.subscribe("http://dead/")
    office.sink.answers["http://dead/"] = always(TRY_LATER)
    for number in range(20):
        await office.post(b"%d" % number)

    with caplog.at_level(logging.WARNING):
        await office.work_off()

    actions = [record.__dict__["action"] for record in caplog.records]
    assert actions.count("endpoint_suspect") == 1
    # Those that made it suspect, and at most those that were under way by then.
    assert 3 <= actions.count("attempt_failed") <= 5
    assert len(office.sink.deliveries) > 5


async def test_a_job_that_nobody_can_finish_ends_in_the_poison_queue(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.storage.post(
        OUTBOX,
        InternalPost([NewMessage(body=b'{"job": "fan_out"}', ttl=3600)]),
        now=office.clock.now(),
    )

    def times_seen() -> int:
        return sum(record.__dict__["action"] == "job_unreadable" for record in caplog.records)

    office.settings = Settings(delivery_lease_seconds=60)
    for number in range(MIN_POISON_CLAIMS):
        async with office.open():
            await until(lambda seen=number + 1: times_seen() == seen)  # type: ignore[misc]
        office.clock.advance(seconds=office.settings.delivery_lease_seconds)
    assert await office.all_in(POISON_REF) == []
    await office.work_off()

    [poison] = await office.all_in(POISON_REF)
    assert poison.body == b'{"job": "fan_out"}'
    assert await office.all_in(OUTBOX) == []
    assert any(
        record.levelno == logging.ERROR and record.__dict__["action"] == "job_poisonous"
        for record in caplog.records
    )


async def test_a_sink_that_raises_costs_a_try_and_nothing_else(office: Office) -> None:
    await office.subscribe("http://well")
    await office.subscribe("http://broken", options=ONE_RETRY)

    async def broken(_delivery: Delivery) -> Outcome:
        raise RuntimeError("a defect")

    office.sink.answers["http://broken"] = broken
    await office.post(b"1")

    await office.work_off()

    [owed] = await office.owed_deliveries()
    assert owed.attempt == 2
    assert len(office.sink.to("http://well")) == 1


async def test_two_engines_on_one_store_deliver_everything_once(office: Office) -> None:
    await office.subscribe("http://receiver")
    for number in range(5 * MAX_PER_CLAIM):
        await office.post(b"%d" % number)

    async with office.open(), office.open():
        await office.settled()

    numbers = sorted(int(body) for body in office.sink.bodies("http://receiver"))
    assert numbers == list(range(5 * MAX_PER_CLAIM))


async def test_secrets_are_given_with_the_delivery(office: Office) -> None:
    office.settings = Settings.model_validate({"webhook_secret": "master"})
    await office.subscribe("http://receiver")
    await office.post(b"1")

    await office.work_off()

    [delivery] = office.sink.deliveries
    assert [secret.partition("_")[0] for secret in delivery.secrets] == ["whsec"]


async def test_a_held_delivery_outlives_its_subscription_by_two_weeks(office: Office) -> None:
    subscription = await office.subscribe("http://receiver", ttl=86400)
    office.sink.answers["http://receiver"] = always(GONE)
    await office.post(b"1")
    await office.work_off()

    [held] = await office.all_in(held_ref(subscription.id))

    assert held.expires_at == subscription.expires_at + timedelta(days=14)


async def test_what_is_given_up_after_its_subscription_was_deleted_leaves_nothing_behind(
    office: Office,
) -> None:
    subscription = await office.subscribe("http://receiver")
    late = office.sink.answers["http://receiver"] = Hanging(REFUSED)
    assert isinstance(late, Hanging)
    await office.post(b"1")

    async with office.open():
        await office.sink.received(1)
        await office.storage.subscriptions.delete(QUEUE, subscription.id)
        late.let_go.set()
        await office.settled()

    for own in queues_of_subscription(subscription.id):
        assert await office.storage.queues.get(own) is None
