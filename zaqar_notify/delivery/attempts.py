"""The records of the delivery log: attempts, and the numbers of deliveries (docs/decisions/0022).

Instants are those of the host's clock, because users read them and ask for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from zaqar_notify.delivery.records import PLAIN, InternalMessage, encode
from zaqar_notify.models import MessageType, NewMessage, Verdict
from zaqar_notify.storage.internal import (
    HELD_PREFIX,
    PARKED_PREFIX,
    RETRY_PREFIX,
    UNDELIVERED_PREFIX,
)

GROUP_ATTEMPTS = 20
"""Attempts in one record, at most."""
GROUPS_KEPT = 500
"""Records of attempts that a subscription keeps; the oldest ones are left out."""
COUNTED_TOGETHER = timedelta(hours=1)
"""A record of numbers is about so long at most."""

MOST_TEXT = 500
"""Characters of a detail and of an excerpt that are kept."""

LEAST_MS = 0.25
STEPS_PER_DOUBLING = 4
"""Durations are counted in steps: each ends 19 % above the one before."""


class State(StrEnum):
    """Of a delivery, after its last attempt."""

    DELIVERED = "delivered"
    RETRYING = "retrying"
    PARKED = "parked"
    HELD = "held"
    UNDELIVERED = "undelivered"


_STATES = {
    RETRY_PREFIX: State.RETRYING,
    PARKED_PREFIX: State.PARKED,
    HELD_PREFIX: State.HELD,
    UNDELIVERED_PREFIX: State.UNDELIVERED,
}


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One attempt of a delivery. New fields go to the end, with a default.

    `number` counts the attempts of the delivery; one that was postponed has the number of the next. `state` is that
    of the delivery afterwards, `next_at` the instant of its next attempt, if it is retrying. `worker` names the
    process. `bytes` is the size of the payload.
    """

    delivery_id: str
    message_id: str
    number: int
    at: datetime
    verdict: Verdict
    state: State
    milliseconds: int
    bytes: int
    worker: str
    status: int | None = None
    detail: str = ""
    excerpt: str = ""
    next_at: datetime | None = None
    kind: MessageType = MessageType.NOTIFICATION
    request_id: str = ""


class AttemptGroup(msgspec.Struct, frozen=True):
    """Attempts of deliveries to one subscription, in the order of their ends."""

    version: int
    project: str
    attempts: list[Attempt]


class Counts(msgspec.Struct, omit_defaults=True):
    """The numbers of one process about one subscription, from `since` on. The record with the highest `serial` of an
    `id` counts. `left_out` are attempts that the log did not keep. `durations` are those of attempts, by step.
    """

    version: int
    id: str
    serial: int
    since: datetime
    delivered: int = 0
    failed: int = 0
    postponed: int = 0
    left_out: int = 0
    last_delivered_at: datetime | None = None
    durations: dict[int, int] = {}

    def note_duration(self, milliseconds: float) -> None:
        step = step_of(milliseconds)
        self.durations[step] = self.durations.get(step, 0) + 1


_group = msgspec.json.Decoder(AttemptGroup)
_counts = msgspec.json.Decoder(Counts)


def state_after(record: InternalMessage) -> State:
    """The state of a delivery that is owed, by the internal queue of its record."""
    kind, dot, _ = record[0].name.partition(".")
    return _STATES.get(kind + dot, State.PARKED)


def attempt_records(
    attempts: Sequence[Attempt], *, project: str, keep_seconds: int
) -> list[NewMessage]:
    """Records of these attempts, in order."""
    groups = [
        AttemptGroup(PLAIN, project, [*attempts[start : start + GROUP_ATTEMPTS]])
        for start in range(0, len(attempts), GROUP_ATTEMPTS)
    ]
    return [NewMessage(encode(group), keep_seconds) for group in groups]


def read_attempts(body: bytes, project: str) -> Sequence[Attempt]:
    """The attempts of a record, if it is the project's: a second wall between tenants.

    Raises:
        ValueError: The record is malformed, or a later release wrote it otherwise.
    """
    group = _group.decode(body)
    return group.attempts if group.project == project else ()


def counts_record(counts: Counts, *, keep_seconds: int) -> NewMessage:
    return NewMessage(encode(counts), keep_seconds)


def read_counts(bodies: Iterable[bytes]) -> list[Counts]:
    """The last record of each process and time. Raises as `read_attempts`."""
    last: dict[str, Counts] = {}
    for body in bodies:
        counts = _counts.decode(body)
        if counts.id not in last or counts.serial > last[counts.id].serial:
            last[counts.id] = counts
    return list(last.values())


def step_of(milliseconds: float) -> int:
    return math.ceil(STEPS_PER_DOUBLING * math.log2(max(milliseconds, LEAST_MS) / LEAST_MS))


def percentile(durations: dict[int, int], part: float) -> float | None:
    """Milliseconds within which this part of the attempts ended, rounded up to a step; None without attempts."""
    wanted = math.ceil(sum(durations.values()) * part)
    seen = 0
    for step in sorted(durations):
        seen += durations[step]
        if seen >= wanted:
            return round(LEAST_MS * 2 ** (step / STEPS_PER_DOUBLING), 1)
    return None
