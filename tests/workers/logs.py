"""The delivery log, as the service functions read it."""

from __future__ import annotations

from tests.kinds import KINDS
from tests.workers.office import QUEUE, Office
from zaqar_notify import subscriptions
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.service import Service
from zaqar_notify.subscriptions import LoggedDelivery, Statistics, Wanted, Where
from zaqar_notify.subscriptions.deliveries import AttemptPage

ALL = Wanted()


def service(office: Office) -> Service:
    return Service(office.storage, office.settings, office.clock, office.doorbell, KINDS)


async def page(
    office: Office,
    where: Where | None = None,
    wanted: Wanted = ALL,
    *,
    marker: str | None = None,
    limit: int | None = 20,
) -> AttemptPage:
    place = Where(QUEUE.project) if where is None else where
    return await subscriptions.attempts(service(office), place, wanted, marker=marker, limit=limit)


async def log_of(office: Office, subscription: Subscription) -> list[tuple[int, str, str]]:
    """The number, verdict and following state of each attempt."""
    queue = subscription.queue
    found = await page(office, Where(queue.project, queue.name, subscription.id))
    return [
        (each.attempt.number, each.attempt.verdict.value, each.attempt.state.value)
        for each in found.attempts
    ]


async def delivery(office: Office, delivery_id: str, where: Where | None = None) -> LoggedDelivery:
    place = Where(QUEUE.project) if where is None else where
    return await subscriptions.delivery(service(office), place, delivery_id)


async def statistics(
    office: Office, subscription: Subscription, queue: QueueRef = QUEUE
) -> Statistics:
    return await subscriptions.statistics(service(office), queue, subscription.id)
