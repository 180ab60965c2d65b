"""Deliveries to the client of a WebSocket."""

from __future__ import annotations

from sinks.push import PushSink
from tests.sinks.builders import delivery_to
from tests.sinks.test_queue import RecordingRelay
from zaqar_notify.delivery import OwedDelivery, read_work
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Verdict
from zaqar_notify.storage.internal import pushed_ref


async def test_the_payload_waits_on_a_queue_of_the_subscription() -> None:
    relay, delivery = RecordingRelay(), delivery_to("websocket:me")

    outcome = await PushSink(relay).deliver(delivery)

    assert outcome.verdict is Verdict.DELIVERED
    [(queue, internal, record)] = relay.left
    assert queue == delivery.subscription.queue
    assert internal == pushed_ref(delivery.subscription.id)
    work = read_work(record.body)
    assert isinstance(work, OwedDelivery)
    assert bytes(work.message.body) == delivery.payload


async def test_a_store_that_gives_no_answer_costs_no_try() -> None:
    relay = RecordingRelay(error=StorageUnavailable("away"))

    outcome = await PushSink(relay).deliver(delivery_to("websocket:me"))

    assert outcome.verdict is Verdict.POSTPONED
