"""Jobs of the outbox: the fan-out of a post, and the replay of deliveries that wait for a subscription."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    OWED_TTL_SECONDS,
    PARKING,
    PLAIN,
    VERSION,
    FanOut,
    InternalMessage,
    OwedDelivery,
    OwedMessage,
    Replay,
    encode,
    internal_message,
)
from zaqar_notify.models import NewMessage, QueueRef, Subscription
from zaqar_notify.rules.attributes import raw
from zaqar_notify.rules.pacing import pace_of
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import outbox_ref, parked_ref

MAX_VISITED = 32
"""Names of queues that a job carries: of a longer way the first one and the last. The first has the
message from a client; of the others each knows that it has had a copy."""


def fan_out_jobs(
    ref: QueueRef,
    ids: Sequence[str],
    messages: Sequence[NewMessage],
    *,
    settings: Settings,
    delayed_queue: bool = False,
    hops: int = 0,
    request_id: str = "",
    visited: Sequence[str] = (),
    origin: str = "",
    ordered_for: Sequence[str] = (),
) -> list[InternalMessage]:
    """The jobs that notify of a post: one for each distinct delay or instant, visible when that has passed.

    A message that expires before it is due has none. Those without a delay are parked for ordered subscriptions by the
    post itself, since no worker could tell their order later; these come first, so that the job finds them.

    Args:
        ids: The messages' ids, in the same order.
        delayed_queue: The queue's `_default_message_delay` is not zero: subscribers see `delay`. A
            message with a delay shows that by itself.
        hops: Queues that the post has crossed by queue subscriptions.
        visited: Their names.
        ordered_for: The queue's ordered subscriptions.
        origin: Of the one message, if it is a copy from another queue.
    """
    due: dict[int | datetime, list[OwedMessage]] = {}
    for message_id, message in zip(ids, messages, strict=True):
        shown = message.delay if delayed_queue or message.delay else None
        owed = OwedMessage(
            message_id,
            message.ttl,
            msgspec.Raw(message.body),
            shown,
            origin,
            not_before=message.not_before,
            attributes=raw(message.attributes),
        )
        wait = 0 if settings.notify_delayed_at_once else message.delay
        if wait >= message.ttl:
            continue
        due.setdefault(message.not_before or wait, []).append(owed)
    outbox = outbox_ref(partition_of(ref, settings.delivery_partitions))
    jobs: list[InternalMessage] = []
    for due_in, together in due.items():
        parked_for = () if due_in else tuple(ordered_for)
        version = VERSION if parked_for else PLAIN
        crossed = _bounded(visited)
        job = FanOut(
            version, ref.project, ref.name, together, hops, request_id, crossed, parked_for
        )
        jobs += [_parked(job, each, message) for each in parked_for for message in together]
        delay = 0 if isinstance(due_in, datetime) else due_in
        not_before = due_in if isinstance(due_in, datetime) else None
        jobs.append(internal_message(outbox, job, delay=delay, not_before=not_before))
    return jobs


def replay_job(
    subscription: Subscription,
    settings: Settings,
    *,
    delay: int = 0,
    replay_id: str = "",
    failures: int = 0,
    failed_at: datetime | None = None,
    resumed_at: datetime | None = None,
    ready_at: datetime | None = None,
    replaces: str | None = None,
) -> InternalMessage:
    """The job that delivers parked and held deliveries.

    Args:
        resumed_at: When the subscription was, or is about to be, enabled again.
    """
    ref = subscription.queue
    outbox = outbox_ref(partition_of(ref, settings.delivery_partitions))
    version = VERSION if resumed_at else PARKING if replay_id else PLAIN
    if pace_of(subscription.options) is not None:
        version = VERSION
    replay = Replay(
        version,
        ref.project,
        ref.name,
        subscription.id,
        replay_id,
        failures,
        failed_at,
        resumed_at,
        ready_at,
        replaces,
    )
    return internal_message(outbox, replay, delay=delay)


def _parked(job: FanOut, subscription_id: str, message: OwedMessage) -> InternalMessage:
    """A message of the job on the own queue of an ordered subscription."""
    delivery = OwedDelivery(
        PLAIN,
        job.project,
        job.queue,
        subscription_id,
        message,
        hops=job.hops,
        request_id=job.request_id,
        visited=job.visited,
    )
    return parked_ref(subscription_id), NewMessage(body=encode(delivery), ttl=OWED_TTL_SECONDS)


def _bounded(visited: Sequence[str]) -> tuple[str, ...]:
    return (*visited[:1], *visited[1:][-(MAX_VISITED - 1) :])
