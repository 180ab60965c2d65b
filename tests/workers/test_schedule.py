"""Retries of failed deliveries where no policy is set, and the log lines at their end."""

from __future__ import annotations

import errno
import itertools
import logging
from collections.abc import Sequence
from datetime import timedelta

import pytest

from tests.partitions import partition
from tests.workers.office import (
    DELIVERED,
    GONE,
    QUEUE,
    REFUSED,
    TRY_LATER,
    Hanging,
    Office,
    always,
    until_stored,
)
from zaqar_notify.delivery import InternalPost, confirmation_job
from zaqar_notify.models import Delivery, JsonObject, MessageType, Outcome, Subscription, Verdict
from zaqar_notify.operations.logs import facts
from zaqar_notify.rules.schedules import STANDARD_WEBHOOKS, delays
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import held_ref

STANDARD = delays(STANDARD_WEBHOOKS)
UNSET: dict[str, object] = {}
"""Options of a subscription that has no policy."""

BY_US = Outcome(Verdict.REFUSED, detail="may not reach 10.0.0.1")


def told(caplog: pytest.LogCaptureFixture, action: str) -> list[dict[str, object]]:
    records = [facts(record) for record in caplog.records]
    return [record for record in records if record.get("action") == action]


async def waits(office: Office, *, most: int = 12) -> list[float]:
    """Let time pass until nothing is owed; seconds between one try and the next."""
    await office.work_off()
    for _ in range(most):
        owed = await office.owed_deliveries()
        if not owed:
            break
        await _to_the_next_try(office)
        await office.work_off()
    instants = [each.sent_at for each in office.sink.deliveries]
    return [(after - before).total_seconds() for before, after in itertools.pairwise(instants)]


async def _to_the_next_try(office: Office) -> None:
    """Try each wait that a schedule may ask for, from the shortest to the longest, until a retry comes."""
    tries = len(office.sink.deliveries)
    start = office.clock.now()
    for wait in sorted({*STANDARD, 1, 10, 15, 20, 25, 30}):
        # Just before it is due there must be no try.
        office.clock.advance(seconds=(start - office.clock.now()).total_seconds() + wait - 0.001)
        await office.work_off()
        assert len(office.sink.deliveries) == tries
        office.clock.advance(seconds=0.001)
        await office.work_off()
        if len(office.sink.deliveries) > tries:
            return
    raise AssertionError("there is no next try")


@pytest.mark.parametrize(
    ("default", "answer", "expected"),
    [
        ("standard", TRY_LATER, STANDARD),
        ("standard", REFUSED, STANDARD),
        ("standard", BY_US, []),
        ("zaqar", TRY_LATER, [1, 1, 1, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30]),
        ("zaqar", REFUSED, []),
        ("sns", TRY_LATER, [20, 20, 20]),
    ],
)
async def test_the_default_schedule_is_followed_to_its_end_and_told_once(
    office: Office,
    caplog: pytest.LogCaptureFixture,
    default: str,
    answer: Outcome,
    expected: Sequence[int],
) -> None:
    office.settings = Settings.model_validate(
        {"retry_default": default, "retry_jitter": 0, "delivery_breaker_failures": 100}
    )
    subscription = await office.subscribe("http://receiver", options=UNSET, ttl=30 * 86400)
    office.sink.answers["http://receiver"] = always(answer)
    [message_id] = await office.post(b"1")

    assert await waits(office, most=20) == expected

    [record] = await office.undelivered(subscription)
    assert record.attempts == len(expected) + 1
    [given_up] = told(caplog, "delivery_given_up")
    assert given_up["attempt"] == len(expected) + 1
    assert given_up["subscription_id"] == subscription.id
    assert (given_up["project"], given_up["queue"]) == (QUEUE.project, QUEUE.name)
    assert given_up["message_id"] == message_id
    assert len(told(caplog, "attempt_failed")) == len(expected)


@pytest.mark.parametrize("where", ["subscription", "queue"])
async def test_a_partial_policy_keeps_zaqars_defaults_and_final_refusals(
    office: Office, where: str
) -> None:
    policy = {"_retry_policy": {"retries_with_no_delay": 1}}
    await office.storage.queues.create(
        QUEUE, metadata=policy if where == "queue" else {}, now=office.clock.now()
    )
    options = policy if where == "subscription" else UNSET
    await office.subscribe("http://away", options=options)
    await office.subscribe("http://refusing", options=options)
    office.sink.answers["http://away"] = always(TRY_LATER)
    office.sink.answers["http://refusing"] = always(REFUSED)
    await office.post(b"1")
    await office.work_off()

    assert len(office.sink.to("http://away")) == 2
    assert len(office.sink.to("http://refusing")) == 1
    [owed] = await office.owed_deliveries()
    assert owed.attempt == 3


async def test_a_policy_s_final_statuses_end_a_delivery_at_once(office: Office) -> None:
    policy: JsonObject = {"_retry_policy": {"preset": "standard", "final_statuses": [404]}}
    subscription = await office.subscribe("http://refusing", options=policy)
    office.sink.answers["http://refusing"] = always(REFUSED)
    await office.post(b"1")
    await office.work_off()

    [record] = await office.undelivered(subscription)
    assert record.attempts == len(office.sink.deliveries) == 1


async def test_a_delivery_ends_at_its_policy_s_age(office: Office) -> None:
    policy: JsonObject = {"_retry_policy": {"preset": "standard", "max_age": 300, "jitter": 0}}
    subscription = await office.subscribe("http://away", options=policy)
    office.sink.answers["http://away"] = always(TRY_LATER)
    await office.post(b"1")

    # The third try would be 305 seconds after the first.
    assert await waits(office) == [5]

    [record] = await office.undelivered(subscription)
    assert record.attempts == 2


async def test_a_success_that_asks_for_a_pause_delays_the_next_message(office: Office) -> None:
    await office.subscribe("http://receiver", options=UNSET)
    pausing = Outcome(Verdict.DELIVERED, status=200, retry_after_seconds=60)
    office.sink.answers["http://receiver"] = always(pausing)
    await office.post(b"1", b"2")
    await office.work_off()

    [owed] = await office.owed_deliveries()
    assert (owed.attempt, len(office.sink.deliveries)) == (1, 1)


async def test_retries_outlive_their_message_and_are_delivered_after_an_outage_of_a_day(
    office: Office,
) -> None:
    await office.subscribe("http://receiver", options=UNSET, ttl=30 * 86400)
    office.sink.answers["http://receiver"] = always(TRY_LATER)
    await office.post(b"1")  # With a ttl of an hour.
    await office.work_off()
    for wait in STANDARD[:6]:
        office.clock.advance(seconds=wait)
        await office.work_off()
    assert sum(STANDARD[:6]) < 86400 < sum(STANDARD[:7])

    office.sink.answers["http://receiver"] = always(DELIVERED)
    office.clock.advance(seconds=STANDARD[6])
    await office.work_off()

    assert len(office.sink.deliveries) == 8
    assert await office.owed_deliveries() == []


async def test_a_retry_does_not_outlive_its_subscription_and_that_is_counted_and_told(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    subscription = await office.subscribe("http://receiver", options=UNSET, ttl=60)
    office.sink.answers["http://receiver"] = always(TRY_LATER)
    await office.post(b"1")
    await office.work_off()
    office.clock.advance(seconds=5)
    await office.work_off()

    office.clock.advance(seconds=300)
    async with office.open():
        await office.settled()

    assert len(office.sink.deliveries) == 2
    assert office.counts.dropped["gone"] == office.counts.dropped.total() == 1
    [dropped] = told(caplog, "delivery_dropped")
    assert dropped["subscription_id"] == subscription.id
    assert (dropped["project"], dropped["queue"]) == (QUEUE.project, QUEUE.name)


async def owe_confirmation(office: Office, subscription: Subscription, kind: MessageType) -> None:
    ref, job = confirmation_job(
        subscription, kind, path="/confirm", settings=office.settings, now=office.clock.now()
    )
    await office.storage.post(ref, InternalPost([job]), now=office.clock.now())


async def test_a_confirmation_is_not_retried_once_its_link_is_over(office: Office) -> None:
    office.settings = Settings.model_validate(
        {
            "require_confirmation": True,
            "signed_url_secrets": "key",
            "default_subscription_ttl": 300,
            "retry_jitter": 0,
        }
    )
    subscription = await office.subscribe("http://receiver", options=UNSET, ttl=86400)
    office.sink.answers["http://receiver"] = always(TRY_LATER)
    # The link of a farewell lives as long as a subscription does by default.
    await owe_confirmation(office, subscription, MessageType.UNSUBSCRIBE_CONFIRMATION)

    assert await waits(office) == [5]

    [record] = await office.undelivered(subscription)
    assert record.attempts == 2


async def test_a_receiver_that_recovers_is_told_of_once_with_since_when_and_how_often(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.settings = Settings(delivery_breaker_failures=3, retry_jitter=0)
    subscription = await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(TRY_LATER)

    async def is_parked() -> bool:
        now = office.clock.now()
        found = await office.storage.subscriptions.get(QUEUE, subscription.id, now=now)
        return found is not None and found.replay_id is not None

    async with office.open():
        await office.post(b"1")
        await until_stored(is_parked)
        assert len(told(caplog, "endpoint_suspect")) == 1
        office.sink.answers["http://receiver"] = always(DELIVERED)
        office.clock.advance(seconds=5)
        office.doorbell.ring(partition())
        await office.sink.received(4)
        await office.settled()

    [recovered] = told(caplog, "endpoint_recovered")
    assert recovered["subscription_id"] == subscription.id
    assert recovered["failed_tries"] == 3
    since = office.clock.now() - timedelta(minutes=1)
    assert since.isoformat() < str(recovered["failing_since"])


async def test_that_a_subscription_is_disabled_is_told_once_by_all_tries_at_once(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    subscription = await office.subscribe("http://receiver", options=UNSET)
    hanging = office.sink.answers["http://receiver"] = Hanging(GONE)

    async with office.open():
        for number in range(3):
            await office.post(b"%d" % number)
            await office.sink.received(number + 1)
            office.clock.advance(seconds=1)
        hanging.let_go.set()
        await office.settled()

    [disabled] = told(caplog, "subscription_disabled")
    assert disabled["subscription_id"] == subscription.id
    assert disabled["status"] == 410
    assert told(caplog, "delivery_given_up") == []
    assert len(await office.all_in(held_ref(subscription.id))) == 3


async def test_a_disabled_subscription_s_former_failures_are_told_with_it(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.subscribe("http://receiver")
    answers = iter([TRY_LATER, TRY_LATER, GONE])

    async def answer(_delivery: Delivery) -> Outcome:
        return next(answers)

    office.sink.answers["http://receiver"] = answer
    await office.post(b"1")

    await office.work_off()

    [disabled] = told(caplog, "subscription_disabled")
    assert disabled["failed_tries"] == 2
    assert disabled["failing_since"] is not None


async def test_our_own_lack_of_files_spends_no_try_and_is_told_once(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.subscribe("http://receiver", options=UNSET)

    async def short_of_files(_delivery: Delivery) -> Outcome:
        raise OSError(errno.EMFILE, "Too many open files")

    office.sink.answers["http://receiver"] = short_of_files
    for number in range(10):
        await office.post(b"%d" % number)
    await office.work_off()

    assert {owed.attempt for owed in await office.owed_deliveries()} == {1}
    assert len(await office.owed_deliveries()) == 10
    [told_of] = told(caplog, "short_of_resources")
    assert "Too many open files" in str(told_of["detail"])
    assert told(caplog, "sink_failed") == told(caplog, "endpoint_suspect") == []
