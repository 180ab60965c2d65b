"""Entries of the delivery log, without a worker that makes the attempts."""

from __future__ import annotations

from tests.clock import START
from workers.delivery_counts import DeliveryCounts
from workers.delivery_log import DeliveryLog
from zaqar_notify.delivery.attempts import Attempt, State
from zaqar_notify.models import Subscription, Verdict
from zaqar_notify.service import Service

FAILED = Attempt(
    delivery_id="msg_1",
    message_id="m1",
    number=1,
    at=START,
    verdict=Verdict.TRY_LATER,
    state=State.RETRYING,
    milliseconds=12,
    bytes=100,
    worker="w1",
    status=503,
)


async def write(service: Service, subscription: Subscription, *attempts: Attempt) -> None:
    """As a process of its own."""
    counts = DeliveryCounts(service.storage, clock=service.clock, keep_seconds=3600)
    log = DeliveryLog(service.storage, counts, clock=service.clock, settings=service.settings)
    await log.write(subscription, attempts)
