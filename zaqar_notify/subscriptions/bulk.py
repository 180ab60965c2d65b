"""Replays of a subscription's deliveries, and redrives of a dead-letter queue: ordering, showing and cancelling them.

Workers carry them out (`workers/bulk.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from zaqar_notify.clock import new_id
from zaqar_notify.delivery import bulk
from zaqar_notify.delivery.bulk import Bulk, Kind, Selection
from zaqar_notify.errors import (
    IdempotencyKeyReused,
    ReplayDoesNotExist,
    TooManyReplays,
    ValidationFailed,
)
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.limits import check_range
from zaqar_notify.rules.names import queue_ref
from zaqar_notify.service import Service
from zaqar_notify.subscriptions.leaving import leave
from zaqar_notify.subscriptions.reading import get

DEFAULT_PER_SECOND = 100
MOST_PER_SECOND = 1000
MOST_RUNNING = 20
"""Of one project at once."""


async def replay(
    service: Service,
    ref: QueueRef,
    subscription_id: str,
    selection: Selection,
    *,
    per_second: int | None = None,
    key: str | None = None,
) -> Bulk:
    """Have deliveries of a subscription made anew: those that were given up, or of messages that are on the queue.

    Args:
        per_second: So many at most become due in a second; None takes the default.
        key: The client's name for this order; ordered again, it is the replay that there is.

    Raises:
        ValidationFailed: A value is wrong.
        TooManyReplays: The project has as many as it may.
        IdempotencyKeyReused: The key names another order.
    """
    if selection.since and selection.until and selection.since >= selection.until:
        raise ValidationFailed("since must be before until")
    subscription = await get(service, ref, subscription_id)
    order = Bulk(
        id=_id(ref, key),
        kind=Kind.REPLAY,
        project=ref.project,
        queue=ref.name,
        per_second=_pace(per_second),
        asked_at=service.clock.now(),
        subscription_id=subscription.id,
        selection=selection,
    )
    return await _order(service, order, key)


async def redrive(
    service: Service,
    ref: QueueRef,
    *,
    target: str | None = None,
    per_second: int | None = None,
    key: str | None = None,
    queues: str | None = None,
) -> Bulk:
    """Send the messages of a dead-letter queue back to where they came from, or to a queue.

    Args:
        queues: The pattern that confines the caller.

    Raises: as `replay`.
    """
    if target is not None:
        queue_ref(ref.project, target)
    if target == ref.name:
        raise ValidationFailed("target must be another queue than the one whose messages are sent")
    order = Bulk(
        id=_id(ref, key),
        kind=Kind.REDRIVE,
        project=ref.project,
        queue=ref.name,
        per_second=_pace(per_second),
        asked_at=service.clock.now(),
        target=target or "",
        queues=queues,
    )
    return await _order(service, order, key)


async def replays(service: Service, project: str) -> Sequence[Bulk]:
    """Replays and redrives of the project: those under way, and those that ended in the last week."""
    return await bulk.known(service.storage.store, project, now=service.clock.now())


async def replay_of_id(service: Service, project: str, replay_id: str) -> Bulk:
    found, _ = await bulk.find(service.storage.store, project, replay_id, now=service.clock.now())
    if found is None:
        raise ReplayDoesNotExist(replay_id)
    return found


async def cancel_replay(service: Service, order: Bulk) -> None:
    """Have it end within seconds; deliveries that it made due stay due. No error if it is over."""
    if not order.is_over:
        await bulk.cancel(service.storage.store, order, now=service.clock.now())


async def _order(service: Service, order: Bulk, key: str | None) -> Bulk:
    """The job is stored first: a request that breaks off before the state leaves a job that ends by itself."""
    store, now = service.storage.store, service.clock.now()
    known = await bulk.known(store, order.project, now=now)
    for present in known:
        if present.id == order.id:
            if not order.is_like(present):
                raise IdempotencyKeyReused(key or order.id)
            return present
    if sum(not each.is_over for each in known) >= MOST_RUNNING:
        raise TooManyReplays(MOST_RUNNING)
    await leave(service, order.ref, bulk.bulk_job(order, service.settings))
    await bulk.note(store, order, now=now)
    await bulk.forget_oldest(store, order.project, now=now)
    return order


def _id(ref: QueueRef, key: str | None) -> str:
    return new_id() if key is None else bulk.id_of(ref.project, ref.name, key)


def _pace(per_second: int | None) -> int:
    if per_second is None:
        return DEFAULT_PER_SECOND
    check_range("per_second", per_second, least=1, most=MOST_PER_SECOND, unit="deliveries")
    return per_second
