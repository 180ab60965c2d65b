"""Jobs of the outbox: the fan-out of a post, and the replay of deliveries that wait for a subscription."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    PARKING,
    PLAIN,
    VERSION,
    FanOut,
    InternalMessage,
    OwedMessage,
    Replay,
    internal_message,
)
from zaqar_notify.models import NewMessage, QueueRef, Subscription
from zaqar_notify.rules.attributes import raw
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import outbox_ref

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
) -> list[InternalMessage]:
    """The jobs that notify of a post: one for each distinct delay or instant, visible when that has passed.

    A message that expires before it is due has none.

    Args:
        ids: The messages' ids, in the same order.
        delayed_queue: The queue's `_default_message_delay` is not zero: subscribers see `delay`. A
            message with a delay shows that by itself.
        hops: Queues that the post has crossed by queue subscriptions.
        visited: Their names.
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
    return [
        internal_message(
            outbox,
            FanOut(
                PLAIN,
                ref.project,
                ref.name,
                together,
                hops,
                request_id,
                _bounded(visited),
            ),
            delay=0 if isinstance(wait, datetime) else wait,
            not_before=wait if isinstance(wait, datetime) else None,
        )
        for wait, together in due.items()
    ]


def replay_job(
    subscription: Subscription,
    settings: Settings,
    *,
    delay: int = 0,
    replay_id: str = "",
    failures: int = 0,
    failed_at: datetime | None = None,
    resumed_at: datetime | None = None,
) -> InternalMessage:
    """The job that delivers parked and held deliveries.

    Args:
        resumed_at: When the subscription was, or is about to be, enabled again.
    """
    ref = subscription.queue
    outbox = outbox_ref(partition_of(ref, settings.delivery_partitions))
    version = VERSION if resumed_at else PARKING if replay_id else PLAIN
    replay = Replay(
        version,
        ref.project,
        ref.name,
        subscription.id,
        replay_id,
        failures,
        failed_at,
        resumed_at,
    )
    return internal_message(outbox, replay, delay=delay)


def _bounded(visited: Sequence[str]) -> tuple[str, ...]:
    return (*visited[:1], *visited[1:][-(MAX_VISITED - 1) :])
