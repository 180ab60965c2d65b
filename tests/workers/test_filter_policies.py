"""Filter policies choose the messages that a subscription gets, and attributes go wherever a delivery goes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from tests.clock import ManualClock
from tests.workers.office import DELIVERED, GONE, QUEUE, REFUSED, TRY_LATER, Office, always
from tests.workers.test_queue_loops import relaying
from zaqar_notify.models import JsonObject, NewMessage, QueueRef, Subscription
from zaqar_notify.rules.attributes import canonical
from zaqar_notify.storage.internal import held_ref

BLUE = canonical(b'{"colour":"blue"}')
RED = canonical(b'{"colour":"red"}')
ONLY_BLUE: JsonObject = {"_filter_policy": {"colour": ["blue"]}}
RECEIVER = "http://receiver"


async def post(office: Office, *messages: tuple[bytes, bytes | None]) -> None:
    await office.post_messages(
        [NewMessage(body, 3600, attributes=attributes) for body, attributes in messages]
    )


def arrived(office: Office, subscriber: str = RECEIVER) -> Sequence[tuple[bytes, bytes | None]]:
    return [(each.message.body, each.message.attributes) for each in office.sink.to(subscriber)]


async def test_a_subscription_with_a_policy_gets_the_messages_that_fit(office: Office) -> None:
    await office.subscribe(RECEIVER, options=ONLY_BLUE)
    await office.subscribe("http://all")
    await post(office, (b"1", BLUE), (b"2", RED), (b"3", None), (b"4", BLUE))

    await office.work_off()

    assert arrived(office) == [(b"1", BLUE), (b"4", BLUE)]
    assert [body for body, _ in arrived(office, "http://all")] == [b"1", b"2", b"3", b"4"]
    assert office.counts.filtered == {
        "accepted": 2,
        "rejected": 2,
        "undecided": 0,
        "unreadable": 0,
    }


async def test_a_policy_may_look_into_bodies(office: Office) -> None:
    policy = {"_filter_policy": {"a": {"b": [1]}}, "_filter_policy_scope": "MessageBody"}
    await office.subscribe(RECEIVER, options=policy)
    await post(office, (b'{"a":{"b":1}}', None), (b'{"a":{"b":2}}', None), (b"[]", None))

    await office.work_off()

    assert arrived(office) == [(b'{"a":{"b":1}}', None)]


async def test_a_post_of_which_nothing_fits_costs_no_attempt_and_leaves_nothing(
    office: Office,
) -> None:
    subscription = await office.subscribe(RECEIVER, options=ONLY_BLUE)
    await post(office, (b"1", RED))

    await office.work_off()

    assert arrived(office) == []
    assert await office.owed_deliveries() == []
    assert await office.undelivered(subscription) == []


async def test_a_changed_policy_holds_for_the_next_post(office: Office) -> None:
    subscription = await office.subscribe(RECEIVER, options=ONLY_BLUE)
    await post(office, (b"1", RED))
    await office.work_off()

    def for_red(subscription: Subscription) -> Subscription:
        return replace(subscription, options={"_filter_policy": {"colour": ["red"]}})

    await office.storage.subscriptions.update(
        QUEUE, subscription.id, for_red, now=office.clock.now()
    )
    await post(office, (b"2", RED))
    await office.work_off()

    assert arrived(office) == [(b"2", RED)]


async def test_a_disabled_subscription_holds_what_fits_with_its_attributes(office: Office) -> None:
    subscription = await office.subscribe(RECEIVER, options=ONLY_BLUE)
    office.sink.answers[RECEIVER] = always(GONE)
    await post(office, (b"1", BLUE))
    await office.work_off()

    await post(office, (b"2", RED), (b"3", BLUE))
    await office.work_off()

    held = await office.works_in(held_ref(subscription.id))
    assert [bytes(each.message.body) for each in held] == [b"1", b"3"]
    assert [bytes(each.message.attributes) for each in held] == [BLUE, BLUE]


async def test_a_policy_that_can_not_be_read_filters_nothing(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.subscribe(RECEIVER, options={"_filter_policy": {"colour": "blue"}})
    await post(office, (b"1", RED))

    await office.work_off()

    assert arrived(office) == [(b"1", RED)]
    assert office.counts.filtered["unreadable"] == 1
    assert "filter_unreadable" in [record.__dict__.get("action") for record in caplog.records]


async def test_a_message_that_is_too_large_for_a_policy_is_delivered_and_counted(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    conditions = [{"prefix": f"a{number}"} for number in range(100)]
    policy = {"_filter_policy": {"a": conditions}, "_filter_policy_scope": "MessageBody"}
    await office.subscribe(RECEIVER, options=policy)
    large, small = (b'{"a":[%b]}' % b",".join([b'"x"'] * count) for count in (101, 100))
    await post(office, (large, None), (small, None))

    await office.work_off()

    assert arrived(office) == [(large, None)]
    assert office.counts.filtered["undecided"] == 1
    assert "filter_undecided" in [record.__dict__.get("action") for record in caplog.records]


async def test_a_retry_has_the_attributes_still(office: Office, clock: ManualClock) -> None:
    await office.subscribe(RECEIVER)
    office.sink.answers[RECEIVER] = always(TRY_LATER)
    await post(office, (b"1", BLUE))
    await office.work_off()

    office.sink.answers[RECEIVER] = always(DELIVERED)
    clock.advance(seconds=3600)
    await office.work_off()

    assert set(arrived(office)) == {(b"1", BLUE)}
    assert len(arrived(office)) > 1


async def test_the_record_of_a_delivery_given_up_has_the_attributes(office: Office) -> None:
    subscription = await office.subscribe(RECEIVER)
    office.sink.answers[RECEIVER] = always(REFUSED)
    await post(office, (b"1", BLUE), (b"2", None))

    await office.work_off()

    records = await office.undelivered(subscription)
    assert [bytes(each.attributes) for each in records] == [BLUE, b""]


async def test_a_queue_subscription_filters_too_and_its_copies_keep_the_attributes(
    office: Office, clock: ManualClock
) -> None:
    copies = QueueRef(QUEUE.project, "copies")
    await office.subscribe(f"queue:{copies.name}", options=ONLY_BLUE)
    await post(office, (b"1", BLUE), (b"2", RED))

    async with relaying(office, clock):
        await office.settled()

    found = await office.all_in(copies)
    assert [(each.body, each.attributes) for each in found] == [(b"1", BLUE)]
