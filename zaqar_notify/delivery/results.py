"""Records that a worker writes after an attempt, or in place of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.delivery.outgoing import Outgoing, delivery_id, shown_payload
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    OWED_TTL_SECONDS,
    PLAIN,
    UNDELIVERED_TTL_SECONDS,
    VERSION,
    InternalMessage,
    OwedDelivery,
    OwedMessage,
    Place,
    Undelivered,
    encode,
    internal_message,
)
from zaqar_notify.models import Delivery, NewMessage, Outcome, QueueRef, Subscription
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import (
    held_ref,
    later_ref,
    parked_ref,
    places_ref,
    pushed_ref,
    retry_ref,
    undelivered_ref,
)


def retry_record(
    outgoing: Outgoing, subscription: Subscription, *, attempt: int, delay: int, settings: Settings
) -> InternalMessage:
    """A delivery with attempt number `attempt` due in `delay` seconds."""
    partition = partition_of(subscription.queue, settings.delivery_partitions)
    return internal_message(
        retry_ref(partition), _delivery(outgoing, subscription, attempt), delay=delay
    )


def parked_record(
    outgoing: Outgoing, subscription: Subscription, *, attempt: int, due_at: datetime
) -> InternalMessage:
    """A delivery that waits, due, until its receiver can take it."""
    delivery = _delivery(outgoing, subscription, attempt)
    delivery = msgspec.structs.replace(delivery, due_at=due_at)
    return parked_ref(subscription.id), NewMessage(body=encode(delivery), ttl=OWED_TTL_SECONDS)


def held_record(
    outgoing: Outgoing, subscription: Subscription, *, now: datetime
) -> InternalMessage:
    """A delivery that waits for its subscription to be enabled; its attempts begin anew then.

    It lives a little longer than the subscription: no client can ask for it afterwards.
    """
    remaining = int((subscription.expires_at - now).total_seconds())
    ttl = min(OWED_TTL_SECONDS, max(0, remaining) + UNDELIVERED_TTL_SECONDS)
    # Its age is counted from the replay on, too.
    delivery = _delivery(msgspec.structs.replace(outgoing, since=None), subscription, attempt=1)
    return held_ref(subscription.id), NewMessage(body=encode(delivery), ttl=ttl)


def place_record(
    subscription: Subscription,
    on: QueueRef,
    records: Sequence[str],
    *,
    attempt: int,
    due_at: datetime,
) -> InternalMessage:
    """The place that records on a subscription's own queue keep until their next attempt."""
    queue = subscription.queue
    place = Place(VERSION, queue.project, queue.name, on.name, tuple(records), attempt, due_at)
    return places_ref(subscription.id), NewMessage(body=encode(place), ttl=OWED_TTL_SECONDS)


def pushed_record(delivery: Delivery) -> InternalMessage:
    """A delivery that waits for the WebSocket of its subscription: the body of its message is the payload."""
    subscription = delivery.subscription
    payload = OwedMessage(
        id=delivery.message_id, ttl=delivery.message.ttl, body=msgspec.Raw(delivery.payload)
    )
    record = OwedDelivery(
        version=PLAIN,
        project=subscription.queue.project,
        queue=subscription.queue.name,
        subscription_id=subscription.id,
        message=payload,
        request_id=delivery.request_id,
        kind=delivery.kind,
    )
    return pushed_ref(subscription.id), NewMessage(body=encode(record), ttl=OWED_TTL_SECONDS)


def later_record(body: bytes, version: int) -> InternalMessage:
    """A job or delivery that this release can't read, for one that can."""
    return later_ref(version), NewMessage(body=body, ttl=OWED_TTL_SECONDS)


def undelivered_record(
    outgoing: Outgoing,
    subscription: Subscription,
    *,
    outcome: Outcome,
    attempts: int,
    now: datetime,
) -> InternalMessage:
    """The record of a delivery that was given up after `attempts` tries."""
    undelivered = Undelivered(
        version=PLAIN,
        delivery_id=delivery_id(subscription.id, outgoing.message_id),
        message_id=outgoing.message_id,
        project=subscription.queue.project,
        queue=subscription.queue.name,
        verdict=outcome.verdict,
        status=outcome.status,
        detail=": ".join(filter(None, (outcome.detail, outcome.excerpt))),
        attempts=attempts,
        given_up_at=now,
        attributes=outgoing.owed.attributes,
        payload=msgspec.Raw(shown_payload(outgoing)),
        origin=outgoing.owed.origin,
        hops=outgoing.hops,
        visited=outgoing.visited[:-1],
    )
    ref = undelivered_ref(subscription.id)
    return ref, NewMessage(body=encode(undelivered), ttl=UNDELIVERED_TTL_SECONDS)


def _delivery(outgoing: Outgoing, subscription: Subscription, attempt: int) -> OwedDelivery:
    return OwedDelivery(
        version=PLAIN,
        project=subscription.queue.project,
        queue=subscription.queue.name,
        subscription_id=subscription.id,
        message=outgoing.owed,
        attempt=attempt,
        hops=outgoing.hops,
        request_id=outgoing.request_id,
        kind=outgoing.kind,
        visited=outgoing.visited[:-1],
        since=outgoing.since,
        posted_at=outgoing.posted_at,
        replayed_by=outgoing.replayed_by,
    )
