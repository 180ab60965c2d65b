"""Names of the internal queues, on which deliveries that are owed are kept.

They are in a project that no request can name. `zaqar_notify/delivery` says what is on them.
"""

from __future__ import annotations

from collections.abc import Sequence

from zaqar_notify.models import INTERNAL_PROJECT, QueueRef

OUTBOX_PREFIX = "outbox."
RETRY_PREFIX = "retry."
PARKED_PREFIX = "parked."
HELD_PREFIX = "held."
UNDELIVERED_PREFIX = "undelivered."
PREFIXES_OF_SUBSCRIPTIONS = (PARKED_PREFIX, HELD_PREFIX, UNDELIVERED_PREFIX)
"""What the queues are called that a subscription has for itself, before its id."""
POISON_REF = QueueRef(INTERNAL_PROJECT, "poison")


def outbox_ref(partition: int) -> QueueRef:
    return QueueRef(INTERNAL_PROJECT, f"{OUTBOX_PREFIX}{partition}")


def retry_ref(partition: int) -> QueueRef:
    return QueueRef(INTERNAL_PROJECT, f"{RETRY_PREFIX}{partition}")


def later_ref(version: int) -> QueueRef:
    """Where workers of earlier releases put what one of this version wrote."""
    return QueueRef(INTERNAL_PROJECT, f"later.{version}")


def parked_ref(subscription_id: str) -> QueueRef:
    return QueueRef(INTERNAL_PROJECT, f"{PARKED_PREFIX}{subscription_id}")


def held_ref(subscription_id: str) -> QueueRef:
    return QueueRef(INTERNAL_PROJECT, f"{HELD_PREFIX}{subscription_id}")


def undelivered_ref(subscription_id: str) -> QueueRef:
    return QueueRef(INTERNAL_PROJECT, f"{UNDELIVERED_PREFIX}{subscription_id}")


def queues_of_subscription(subscription_id: str) -> Sequence[QueueRef]:
    """The queues that a subscription has for itself: they go when it goes."""
    return [
        QueueRef(INTERNAL_PROJECT, f"{prefix}{subscription_id}")
        for prefix in PREFIXES_OF_SUBSCRIPTIONS
    ]
