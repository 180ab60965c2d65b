"""Periodic work. The heartbeat and the turning away are each process's own; of the sweep one worker at a
time has the turn, which ends by itself. The sweep is idempotent: when it takes longer than the turn,
another worker may do it as well.
"""

from __future__ import annotations

import asyncio
import logging

from workers.attempts import Batch
from workers.consumers import Consumers
from workers.outages import Stop
from workers.slots import Slots
from workers.taken import working_on
from workers.untried import Untried
from zaqar_notify.clock import Clock
from zaqar_notify.delivery.subscribers import shown_subscriber
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Subscription
from zaqar_notify.quotas import BELIEVED_SECONDS, KnownLimits
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

logger = logging.getLogger(__name__)

SWEEP = "sweep"
SWEEP_ROWS = 500
"""Rows of each kind removed at once: a batch holds up other writes for a few milliseconds."""


TURN_AWAY_SECONDS = 0.25
"""How often batches that wait too long are looked for."""


async def renew_regularly(consumers: Consumers, *, lease_seconds: int, stop: Stop) -> None:
    """The heartbeat of the leases, until it is cancelled: jobs in hand are finished after the stop."""
    while True:
        await asyncio.sleep(lease_seconds / 3)
        try:
            await consumers.renew()
        except StorageUnavailable as error:
            stop.outage.met(error)


async def follow_regularly(limits: KnownLimits) -> None:
    """Learn of changed quotas, until it is cancelled."""
    while True:
        await limits.look()
        await asyncio.sleep(BELIEVED_SECONDS)


async def turn_away_regularly(slots: Slots[Batch], untried: Untried) -> None:
    """Store batches that wait too long for their endpoint, until it is cancelled."""
    while True:
        await asyncio.sleep(TURN_AWAY_SECONDS)
        overdue = slots.turn_away_overdue()
        if overdue:
            with working_on(batch.taken for batch in overdue):
                await untried.defer(overdue)


async def sweep_regularly(
    storage: Storage, *, clock: Clock, settings: Settings, stop: Stop
) -> None:
    """Reclaim the space of expired rows, until the stop."""
    while not stop.is_set():
        try:
            if await storage.take_turn(SWEEP, seconds=settings.sweep_seconds, now=clock.now()):
                await sweep(storage, clock=clock, stop=stop)
        except StorageUnavailable as error:
            stop.outage.met(error)
        else:
            stop.outage.over()
        await stop.pause(settings.sweep_seconds)


async def sweep(storage: Storage, *, clock: Clock, stop: Stop) -> int:
    """Remove expired rows in small batches until none is left, or the stop; return their number.

    Raises:
        StorageUnavailable: No answer came; rows that were removed stay removed.
    """
    removed = await _remove_expired_subscriptions(storage, clock=clock, stop=stop)
    while not stop.is_set():
        batch = await storage.sweep(now=clock.now(), limit=SWEEP_ROWS)
        removed += batch
        if batch < SWEEP_ROWS:
            break
    return removed


async def _remove_expired_subscriptions(storage: Storage, *, clock: Clock, stop: Stop) -> int:
    removed = 0
    while not stop.is_set():
        batch = await storage.subscriptions.remove_expired(now=clock.now(), limit=SWEEP_ROWS)
        if not batch:
            break
        removed += len(batch)
        for subscription in batch:
            _log_expired(subscription)
    return removed


def _log_expired(subscription: Subscription) -> None:
    logger.info(
        "A subscription has expired; it is removed with its undelivered messages",
        extra={
            "action": "subscription_expired",
            "subscription_id": subscription.id,
            "project": subscription.queue.project,
            "queue": subscription.queue.name,
            "subscriber": shown_subscriber(subscription.subscriber),
            "ttl": subscription.ttl,
        },
    )
