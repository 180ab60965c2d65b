"""The delivery log: which attempts it has, and that no delivery waits for it or fails with it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from msgspec.structs import replace

from tests.workers.logs import delivery, log_of, page, statistics
from tests.workers.office import (
    AT_ONCE,
    DELIVERED,
    GONE,
    OUTBOX,
    QUEUE,
    REFUSED,
    TRY_LATER,
    Office,
    always,
    until,
    until_stored,
)
from workers import delivery_log
from zaqar_notify.delivery import InternalPost, delivery_id, read_undelivered, replay_job
from zaqar_notify.delivery.again import of_undelivered, owed_again
from zaqar_notify.delivery.attempts import GROUP_ATTEMPTS, State
from zaqar_notify.errors import DeliveryNotLogged, StorageUnavailable
from zaqar_notify.models import Delivery, JsonObject, Outcome, Subscription, Verdict
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import attempts_ref, counts_ref, undelivered_ref
from zaqar_notify.subscriptions import Where

HOOK = "http://hook"
FINAL: JsonObject = {"_retry_policy": {"minimum_delay": 5}}
LATER: JsonObject = {
    "_retry_policy": {
        "retries_with_no_delay": 0,
        "minimum_delay_retries": 2,
        "minimum_delay": 30,
        "maximum_delay": 60,
    }
}


def answers(office: Office, *outcomes: Outcome) -> None:
    """The receiver gives these answers, and takes everything afterwards."""
    left = list(outcomes)

    async def answer(_delivery: Delivery) -> Outcome:
        return left.pop(0) if left else DELIVERED

    office.sink.answers[HOOK] = answer


def all_kept(office: Office) -> None:
    office.settings = Settings(retry_jitter=0, delivery_log="all")


async def test_failures_are_logged_with_what_follows_and_the_success_at_the_end(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK, options=AT_ONCE)
    answers(office, TRY_LATER, TRY_LATER)
    await office.post(b"1")

    await office.work_off()

    assert await log_of(office, subscription) == [
        (1, "try_later", "retrying"),
        (2, "try_later", "retrying"),
        (3, "delivered", "delivered"),
    ]


async def test_a_failed_delivery_and_its_end_are_in_the_log_when_their_work_is_done(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the worker afterwards."""
    monkeypatch.setattr(delivery_log, "EVERY_SECONDS", 3600)
    subscription = await office.subscribe(HOOK, options=AT_ONCE)
    answers(office, TRY_LATER)

    async with office.open():
        await office.post(b"1")
        await office.settled()

        assert await log_of(office, subscription) == [
            (1, "try_later", "retrying"),
            (2, "delivered", "delivered"),
        ]


async def test_the_success_of_a_job_whose_worker_died_is_logged(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=LATER)
    [message_id] = await office.post(b"1")
    lease = office.settings.delivery_lease_seconds
    await office.storage.claim(
        OUTBOX, claim_id="the dead worker's", ttl=lease, grace=0, limit=1, now=office.clock.now()
    )

    office.clock.advance(seconds=lease)
    await office.work_off()

    assert await log_of(office, subscription) == [(1, "delivered", "delivered")]
    wanted = delivery_id(subscription.id, message_id)
    assert (await delivery(office, wanted)).state is State.DELIVERED


async def test_an_attempt_is_logged_with_all_its_facts_and_without_the_body(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=LATER)
    answers(office, Outcome(Verdict.TRY_LATER, 503, "HTTP 503", excerpt="Back soon"))
    [message_id] = await office.post(b'"a secret body"')

    await office.work_off()

    [logged] = (await page(office)).attempts
    attempt, now = logged.attempt, office.clock.now()
    assert (attempt.message_id, attempt.delivery_id) == (
        message_id,
        delivery_id(subscription.id, message_id),
    )
    assert (attempt.at, attempt.next_at) == (now, now + timedelta(seconds=30))
    assert (attempt.status, attempt.detail, attempt.excerpt) == (503, "HTTP 503", "Back soon")
    assert attempt.bytes == len(office.sink.deliveries[0].payload)
    assert len(attempt.worker) == 8
    stored = await office.all_in(attempts_ref(subscription.id))
    assert b"secret" not in b"".join(each.body for each in stored)


async def test_successes_are_logged_where_the_operator_asks_for_all(office: Office) -> None:
    subscription = await office.subscribe(HOOK)
    await office.post(b"1")
    await office.work_off()
    assert await log_of(office, subscription) == []

    all_kept(office)
    await office.post(b"2")
    await office.work_off()

    assert await log_of(office, subscription) == [(1, "delivered", "delivered")]


async def test_successes_share_records(office: Office) -> None:
    all_kept(office)
    subscription = await office.subscribe(HOOK)
    await office.post(*(b"%d" % number for number in range(2 * GROUP_ATTEMPTS)))

    await office.work_off()

    assert len(await office.all_in(attempts_ref(subscription.id))) == 2


@pytest.mark.parametrize(
    ("outcome", "options", "verdict", "state"),
    [
        (REFUSED, FINAL, "refused", "undelivered"),
        (GONE, FINAL, "gone", "held"),
        (Outcome(Verdict.POSTPONED, detail="no relay"), LATER, "postponed", "retrying"),
    ],
)
async def test_the_state_after_an_attempt_is_that_of_the_record_beside_it(
    office: Office, outcome: Outcome, options: JsonObject, verdict: str, state: str
) -> None:
    subscription = await office.subscribe(HOOK, options=options)
    office.sink.answers[HOOK] = always(outcome)
    await office.post(b"1")

    await office.work_off()

    assert await log_of(office, subscription) == [(1, verdict, state)]


async def test_a_store_that_takes_no_log_holds_up_no_delivery(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await office.subscribe(HOOK, options=LATER)
    answers(office, TRY_LATER)
    post = office.storage.messages.post
    refused = 0

    async def without_log(ref, *args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal refused
        if ref == attempts_ref(subscription.id) and refused < 3:
            refused += 1
            raise StorageUnavailable("full")
        return await post(ref, *args, **kwargs)

    monkeypatch.setattr(office.storage.messages, "post", without_log)
    monkeypatch.setattr(delivery_log, "EVERY_SECONDS", 0.01)
    await office.post(b"1")

    async with office.open():
        await office.settled()
        assert len(await office.owed_deliveries()) == 1
        await until(lambda: refused == 3)

    assert await log_of(office, subscription) == [(1, "try_later", "retrying")]


async def test_a_defect_of_the_log_stops_no_engine(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    all_kept(office)
    subscription = await office.subscribe(HOOK)
    monkeypatch.setattr(delivery_log, "attempt_records", None)
    monkeypatch.setattr(delivery_log, "EVERY_SECONDS", 0.01)
    await office.post(b"1")

    async with office.open():
        await until(lambda: "delivery log could not" in caplog.text)
        await office.post(b"2")
        await office.settled()

    assert len(office.sink.to(HOOK)) == 2
    assert await log_of(office, subscription) == []


async def test_the_log_of_a_subscription_is_bounded_and_says_how_much_it_left_out(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_log, "GROUPS_KEPT", 3)
    monkeypatch.setattr(delivery_log, "TRIMMED_EVERY", 1)
    monkeypatch.setattr(delivery_log, "EVERY_SECONDS", 0.01)
    subscription = await office.subscribe(HOOK, options=FINAL)
    office.sink.answers[HOOK] = always(REFUSED)
    ids = []

    async with office.open() as engine:
        for number in range(5):
            ids += await office.post(b"%d" % number)
            await until(partial(_has_tried, office, number + 1))
            await until(lambda: not engine.in_hand)

        async def is_trimmed() -> bool:
            return len(await office.all_in(attempts_ref(subscription.id))) == 3

        await until_stored(is_trimmed)

    found = await page(office)
    assert [each.attempt.message_id for each in found.attempts] == ids[2:]
    assert found.left_out == 2


def _has_tried(office: Office, count: int) -> bool:
    return len(office.sink.deliveries) >= count


async def test_the_log_is_kept_for_its_time(office: Office) -> None:
    office.settings = Settings(retry_jitter=0, delivery_log_seconds=3600)
    subscription = await office.subscribe(HOOK, options=FINAL)
    answers(office, REFUSED)
    await office.post(b"1")
    await office.work_off()

    office.clock.advance(seconds=3599)
    assert len(await log_of(office, subscription)) == 1

    office.clock.advance(seconds=1)
    assert await log_of(office, subscription) == []


async def test_the_log_goes_with_its_subscription(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=FINAL)
    answers(office, REFUSED)
    await office.post(b"1")
    await office.work_off()

    await office.storage.subscriptions.delete(QUEUE, subscription.id)

    assert await office.all_in(attempts_ref(subscription.id)) == []
    assert await office.all_in(counts_ref(subscription.id)) == []


async def failed_once(office: Office, options: JsonObject) -> tuple[Subscription, str]:
    subscription = await office.subscribe(HOOK, options=options)
    answers(office, TRY_LATER)
    [message_id] = await office.post(b"1")
    await office.work_off()
    return subscription, delivery_id(subscription.id, message_id)


async def test_a_delivery_is_shown_as_it_is_now(office: Office) -> None:
    subscription, wanted = await failed_once(office, LATER)
    failed = await delivery(office, wanted)
    assert (failed.state, failed.next_at) == (
        State.RETRYING,
        office.clock.now() + timedelta(seconds=30),
    )

    office.clock.advance(seconds=30)
    await office.work_off()

    done = await delivery(office, wanted)
    assert (done.state, done.next_at) == (State.DELIVERED, None)
    assert [each.attempt.number for each in done.attempts] == [1, 2]
    assert done.subscription_id == subscription.id


async def enable(office: Office, subscription: Subscription) -> None:
    """As a request does that changes the subscription."""
    await office.storage.subscriptions.update(
        QUEUE,
        subscription.id,
        lambda each: replace(each, disabled_at=None),
        now=office.clock.now(),
    )
    ref, job = replay_job(subscription, office.settings)
    await office.storage.post(ref, InternalPost([job]), now=office.clock.now())


async def test_a_held_delivery_is_delivered_when_it_is_held_no_more(office: Office) -> None:
    subscription = await office.subscribe(HOOK)
    answers(office, GONE)
    [message_id] = await office.post(b"1")
    await office.work_off()
    wanted = delivery_id(subscription.id, message_id)
    assert (await delivery(office, wanted)).state is State.HELD

    await enable(office, subscription)
    await office.work_off()

    assert (await delivery(office, wanted)).state is State.DELIVERED


async def test_a_delivery_that_was_given_up_is_shown_as_its_replay_goes(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=FINAL)
    answers(office, REFUSED)
    [message_id] = await office.post(b"1")
    await office.work_off()
    wanted = delivery_id(subscription.id, message_id)
    assert (await delivery(office, wanted)).state is State.UNDELIVERED

    [record] = await office.all_in(undelivered_ref(subscription.id))
    again = of_undelivered(read_undelivered(record.body))
    assert again is not None
    ref, owed = owed_again(
        QUEUE, subscription.id, again, replayed_by="replay1", settings=office.settings
    )
    await office.storage.post(ref, InternalPost([owed]), now=office.clock.now())
    await office.storage.messages.delete_many(
        undelivered_ref(subscription.id), [record.id], claim_ids=None, now=office.clock.now()
    )
    assert (await delivery(office, wanted)).state is State.RETRYING
    await office.work_off()

    done = await delivery(office, wanted)
    assert done.state is State.DELIVERED
    assert [each.attempt.state for each in done.attempts] == [State.UNDELIVERED, State.DELIVERED]


async def test_a_delivery_that_waits_for_its_first_attempt_is_found_by_its_subscription(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK)
    answers(office, GONE)
    _, second = await office.post(b"1", b"2")
    await office.work_off()
    wanted = delivery_id(subscription.id, second)

    found = await delivery(office, wanted, Where(QUEUE.project, QUEUE.name, subscription.id))

    assert (found.state, found.message_id, found.attempts) == (State.HELD, second, [])
    with pytest.raises(DeliveryNotLogged):
        await delivery(office, "msg_unknown")


async def test_the_numbers_of_all_processes_are_added(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=LATER)
    answers(office, TRY_LATER)
    for body in (b"1", b"2", b"3"):
        await office.post(body)
        await office.work_off()  # Each time another engine, which writes its numbers at its end.
    office.clock.advance(seconds=7)

    found = await statistics(office, subscription)

    assert (found.delivered, found.failed, found.retrying) == (2, 1, 1)
    assert found.oldest_pending_seconds == 7
    assert found.last_failure is not None
    assert found.last_failure.status == 503
    assert found.last_delivered_at is not None
    assert found.latency_p50_ms is not None
    assert found.latency_p99_ms is not None
    assert found.failures_in_a_row == 0


async def test_a_record_of_numbers_replaces_the_one_before_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_log, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr("workers.delivery_counts.EVERY_SECONDS", 0.0)
    subscription = await office.subscribe(HOOK)

    async def counted(number: int) -> bool:
        return (await statistics(office, subscription)).delivered == number

    async with office.open():
        for number in range(1, 4):
            await office.post(b"1")
            await until_stored(partial(counted, number))

        async def is_alone() -> bool:
            return len(await office.all_in(counts_ref(subscription.id))) == 1

        await until_stored(is_alone)


async def test_statistics_tell_of_a_receiver_that_fails(office: Office) -> None:
    office.settings = Settings(retry_jitter=0, delivery_breaker_failures=2)
    subscription = await office.subscribe(HOOK, options=LATER)
    office.sink.answers[HOOK] = always(TRY_LATER)
    await office.post(*(b"%d" % number for number in range(5)))

    await office.work_off()

    found = await statistics(office, subscription)
    assert (found.retrying, found.parked, found.breaker) == (2, 3, "open")
    assert found.failures_in_a_row == 2
    assert found.failing_since == office.clock.now()
