"""Names of the internal queues, on which deliveries that are owed are kept.

They are in a project that no request can name, on the message store of a pool: two pools have queues of
the same names. `zaqar_notify/delivery` describes their messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from zaqar_notify.models import INTERNAL_PROJECT, QueueRef

DEFAULT_POOL = "default"
"""The message store that the settings name."""


class Partition(NamedTuple):
    """A part of the deliveries that are owed: it has an outbox and a retry queue on the message store of its pool."""

    pool: str
    number: int


OUTBOX_PREFIX = "outbox."
RETRY_PREFIX = "retry."
PARKED_PREFIX = "parked."
HELD_PREFIX = "held."
UNDELIVERED_PREFIX = "undelivered."
PUSHED_PREFIX = "pushed."
PLACES_PREFIX = "places."
ATTEMPTS_PREFIX = "attempts."
COUNTS_PREFIX = "counts."
PREFIXES_OF_DELIVERIES = (PARKED_PREFIX, HELD_PREFIX, UNDELIVERED_PREFIX, PUSHED_PREFIX)
"""The beginnings of the names of a subscription's own queues that have deliveries; its id follows."""
PREFIXES_OF_SUBSCRIPTIONS = (*PREFIXES_OF_DELIVERIES, PLACES_PREFIX, ATTEMPTS_PREFIX, COUNTS_PREFIX)
"""Those of all its own queues; the last two have its delivery log."""


def internal_ref(name: str) -> QueueRef:
    return QueueRef(INTERNAL_PROJECT, name)


POISON_REF = internal_ref("poison")
TRUSTS_REF = internal_ref("trusts")
"""The trusts of users that were made for subscriptions, on the message store of the default pool."""
CERTIFICATES_REF = internal_ref("certificates")
"""The keys that sign SNS envelopes, with their certificates, on the message store of the default pool."""
WILLS_REF = internal_ref("wills")
"""The wills of processes that hold WebSockets, on the message store of the default pool."""
ENDPOINTS_REF = internal_ref("endpoints")
"""Changes of the states of endpoints, on the message store of the default pool."""


MOVES_REF = internal_ref("moves")
"""Moves of queues to other pools that are asked for and not done, on the message store of the default pool."""
MOVED_REF = internal_ref("moved")
"""Moves that have ended, there, too."""
MEMBERS_REF = internal_ref("members")
"""The processes that use queues of a pool, on its store, while queues can move."""
NOTICES_REF = internal_ref("notices")
"""Notices of moves to these processes, there, too."""
ANSWERS_REF = internal_ref("answers")
"""Their answers, there, too."""


def bulk_ref(project: str) -> QueueRef:
    """The state of a project's replays and redrives, on the message store of the default pool."""
    return internal_ref(f"bulk.{hashlib.sha256(project.encode()).hexdigest()[:32]}")


def moving_ref(move_id: str) -> QueueRef:
    """The progress of a move, on the message store of the default pool: the last message counts."""
    return internal_ref(f"moving.{move_id}")


def outbox_ref(partition: Partition) -> QueueRef:
    return internal_ref(f"{OUTBOX_PREFIX}{partition.number}")


def retry_ref(partition: Partition) -> QueueRef:
    return internal_ref(f"{RETRY_PREFIX}{partition.number}")


def later_ref(version: int) -> QueueRef:
    """The queue for jobs of this version that workers of earlier releases could not read."""
    return internal_ref(f"later.{version}")


def probe_ref(probe_id: str) -> QueueRef:
    """On which a process tries whether the store does as it should."""
    return internal_ref(f"probe.{probe_id}")


def parked_ref(subscription_id: str) -> QueueRef:
    return internal_ref(f"{PARKED_PREFIX}{subscription_id}")


def held_ref(subscription_id: str) -> QueueRef:
    return internal_ref(f"{HELD_PREFIX}{subscription_id}")


def undelivered_ref(subscription_id: str) -> QueueRef:
    return internal_ref(f"{UNDELIVERED_PREFIX}{subscription_id}")


def places_ref(subscription_id: str) -> QueueRef:
    """The places that deliveries of a paced subscription keep on its own queues."""
    return internal_ref(f"{PLACES_PREFIX}{subscription_id}")


def pushed_ref(subscription_id: str) -> QueueRef:
    return internal_ref(f"{PUSHED_PREFIX}{subscription_id}")


def attempts_ref(subscription_id: str) -> QueueRef:
    return internal_ref(f"{ATTEMPTS_PREFIX}{subscription_id}")


def counts_ref(subscription_id: str) -> QueueRef:
    return internal_ref(f"{COUNTS_PREFIX}{subscription_id}")


def queues_of_subscription(subscription_id: str) -> Sequence[QueueRef]:
    """The queues that a subscription has for itself: they go when it goes."""
    return [internal_ref(f"{prefix}{subscription_id}") for prefix in PREFIXES_OF_SUBSCRIPTIONS]
