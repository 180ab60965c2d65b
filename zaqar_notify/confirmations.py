"""Asking subscribers to confirm, and how often a mailbox is asked at most.

A confirmation mail goes to whomever a stranger names. So an address has some places a day, over all
projects and queues: each mail that is asked for takes the next one and leaves later than the one before
it, and without a place there is none. A place is an idempotency key of the very write that leaves the
mail to the workers: it is as durable as that, the same for all processes, and forgotten by itself.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

import msgspec

from zaqar_notify.clock import new_id
from zaqar_notify.delivery import InternalMessage, InternalPost, confirmation_job
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.subscribers import shown_subscriber
from zaqar_notify.errors import IdempotencyKeyReused
from zaqar_notify.models import INTERNAL_PROJECT, MessageType, QueueRef, Subscription
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey
from zaqar_notify.storage.internal import Partition, outbox_ref

logger = logging.getLogger(__name__)

PLACE_SECONDS = 86400

DELAYS_SECONDS = (0, 0, 0, 300, 3600, 14400)
"""Of the first mail to an address within a day, of the second, …; three queues are subscribed to at once."""

ConfirmAt: TypeAlias = Callable[[Subscription], str]
"""The path below the public URL at which a subscription is confirmed, as the caller's surface has it."""


def asks_to_confirm(settings: Settings) -> bool:
    return settings.require_confirmation and bool(settings.signed_url_secrets)


async def ask(
    service: Service,
    subscription: Subscription,
    kind: MessageType,
    *,
    confirm_at: ConfirmAt,
    now: datetime,
) -> None:
    """Leave a request to confirm, or a farewell, for the workers: now, or when its address may have it.

    One that could come only after its link has ended, or has no place left, is not sent: it is counted
    and told.
    """
    on_host = service.clock.on_host
    job = confirmation_job(
        msgspec.structs.replace(subscription, expires_at=on_host(subscription.expires_at)),
        kind,
        path=confirm_at(subscription),
        settings=service.settings,
        now=on_host(now),
    )
    asked = service.kinds.of(subscription.subscriber)
    addressee = asked.addressee(subscription.subscriber) if asked else None
    if addressee is None:
        partition = service.partition_of(subscription.queue)
        await _leave(service, subscription, job, partition, now=now)
        return
    # All processes look for an address's places in the same queue of the same store.
    places = QueueRef(INTERNAL_PROJECT, hashlib.sha256(addressee.encode()).hexdigest())
    partition = partition_of(places, service.settings.delivery_partitions)
    lives = _link_seconds(subscription, kind, service.settings)
    for place, delay in enumerate(DELAYS_SECONDS):
        if delay >= lives:
            break
        key = IdempotencyKey(f"{places.name}.{place}", new_id().encode(), PLACE_SECONDS)
        try:
            await _leave(service, subscription, job, partition, delay=delay, key=key, now=now)
        except IdempotencyKeyReused:
            continue
        return
    service.metrics.confirmations_withheld += 1
    _log_withheld(subscription, kind)


async def _leave(
    service: Service,
    subscription: Subscription,
    job: InternalMessage,
    partition: Partition,
    *,
    now: datetime,
    delay: int = 0,
    key: IdempotencyKey | None = None,
) -> None:
    """Raises IdempotencyKeyReused: The key is taken, and nothing is left."""
    _, message = job
    delayed = msgspec.structs.replace(message, delay=delay, ttl=message.ttl + delay)
    owed = InternalPost([delayed], project=subscription.queue.project, idempotency_key=key)
    messages = service.storage.pools[partition.pool].messages
    await messages.post(outbox_ref(partition), owed, now=now)
    service.doorbell.ring(partition)


def _link_seconds(subscription: Subscription, kind: MessageType, settings: Settings) -> int:
    is_farewell = kind is MessageType.UNSUBSCRIBE_CONFIRMATION
    return settings.default_subscription_ttl if is_farewell else subscription.ttl


def _log_withheld(subscription: Subscription, kind: MessageType) -> None:
    logger.warning(
        "An address has reached its limit of confirmation mails; this mail is not sent",
        extra={
            "action": "confirmation_withheld",
            "kind": kind.value,
            "subscriber": shown_subscriber(subscription.subscriber),
            "subscription_id": subscription.id,
            "project": subscription.queue.project,
            "queue": subscription.queue.name,
        },
    )
