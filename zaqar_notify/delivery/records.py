"""Records on the internal queues: their types, and reading and writing them.

They are JSON, with the clients' bodies spliced in and taken out again as the bytes they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import TypeAlias, TypeVar

import msgspec

from zaqar_notify.models import MessageType, NewMessage, QueueRef, Verdict
from zaqar_notify.rules.attributes import NO_ATTRIBUTES
from zaqar_notify.storage.base import IdempotencyKey, ReadyPost
from zaqar_notify.storage.internal import later_ref

logger = logging.getLogger(__name__)

Read = TypeVar("Read")

VERSION = 3
"""Of the records below. It is raised with a change that earlier releases must not overlook: they leave
the record to a worker of this version. A new field with a default that they may overlook needs none."""

PLAIN = 1
"""Of the records that every release can read. Those of earlier releases move held deliveries alone, so
the replay of parked ones is of version 2. So is the move of a dead letter: they know no such job."""

PARKING = 2
"""Of these two. The replay that ends a pause is of version 3, like all jobs that are newer: among them those of ordered
and paced subscriptions, which releases before it would deliver in any order and at any pace."""

OWED_TTL_SECONDS = 10 * 365 * 86400
"""Ten years: a delivery ends by being delivered, given up or held, never by the passing of time."""

UNDELIVERED_TTL_SECONDS = 14 * 86400
"""How long a record of a delivery given up can be read, and how long held deliveries outlive their subscription."""


class WrittenLater(ValueError):
    """A record of a later version than this release knows."""

    def __init__(self, version: int) -> None:
        super().__init__(f"Version {version} of a record is later than {VERSION}")
        self.version = version


class OwedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client's message inside a record. `delay` is None on a queue that is not a delayed queue.

    `origin` is kept by all copies that queue subscriptions make of a message; empty: this is none. `not_before` is
    when it was to be due, if its client said so.
    """

    id: str
    ttl: int
    body: msgspec.Raw
    delay: int | None = None
    origin: str = ""
    not_before: datetime | None = None
    attributes: msgspec.Raw = NO_ATTRIBUTES


class FanOut(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="fan_out"):
    """The messages of one post that are due together, to be sent to every subscription.

    `visited` are the queues that they crossed before this one, by queue subscriptions, the last ones
    last. `parked_for` are the ordered subscriptions on whose own queues the post itself has put them.
    """

    version: int
    project: str
    queue: str
    messages: list[OwedMessage]
    hops: int = 0
    request_id: str = ""
    visited: tuple[str, ...] = ()
    parked_for: tuple[str, ...] = ()


class Replay(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="replay"):
    """Deliver the parked and held deliveries of a subscription.

    The one that the subscription names by `id` is its probe, too: while the receiver fails, it comes
    back again and again. It did so `failures` times, `failed_at` the last time. The one that enables a subscription
    again says since when, by `resumed_at`. Where the subscription bounds its rate, no request may begin before
    `ready_at`. A job may take the place of the one that the subscription calls `replaces`.
    """

    version: int
    project: str
    queue: str
    subscription_id: str
    id: str = ""
    failures: int = 0
    failed_at: datetime | None = None
    resumed_at: datetime | None = None
    ready_at: datetime | None = None
    replaces: str | None = None


class OwedDelivery(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="deliver"):
    """One message for one subscription; `attempt` is the number of the next try, from 1.

    For a confirmation the message's body is the payload itself. `since` is when the delivery was due
    first, `due_at` when the try of a parked one was, `posted_at` when the message was posted. A post that parks it for
    an ordered subscription leaves them out. `replayed_by` is the last replay or redrive that brought it back.
    """

    version: int
    project: str
    queue: str
    subscription_id: str
    message: OwedMessage
    attempt: int = 1
    hops: int = 0
    request_id: str = ""
    kind: MessageType = MessageType.NOTIFICATION
    visited: tuple[str, ...] = ()
    since: datetime | None = None
    due_at: datetime | None = None
    posted_at: datetime | None = None
    replayed_by: str = ""


class Move(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="move"):
    """Store a dead letter of `queue` on the queue `target`, which is on another message store.

    `place` is the message's place in `queue`. The ttl of the message is the one that it has on `target`.
    A message that was encrypted on `queue` is so on `target`.
    """

    version: int
    project: str
    queue: str
    target: str
    message: OwedMessage
    place: str
    client_id: str
    posted_at: datetime
    checksum: str | None = None
    is_encrypted: bool = False


class Place(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="place"):
    """Deliveries of a paced subscription that keep their places on its own queue `on`: the next attempt of these
    records, together one request, is number `attempt`, and due at `due_at`. The last one about a record counts."""

    version: int
    project: str
    queue: str
    on: str
    records: tuple[str, ...]
    attempt: int
    due_at: datetime


class BulkJob(msgspec.Struct, frozen=True, tag_field="job", tag="bulk"):
    """Go on with the replay or redrive `id` of the project; `queue` is where the job belongs."""

    version: int
    project: str
    queue: str
    id: str
    ordered_at: datetime


class Letter(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="letter"):
    """Store a message about a subscription of `queue` on the queue `target`, once under `key`: a delivery that was given
    up, or the notice that the subscription was disabled. The target's subscribers are notified.

    `hops` and `visited` are as of a fan-out on the target. A notice is stored if the subscription was disabled at
    `disabled_at`.
    """

    version: int
    project: str
    queue: str
    subscription_id: str
    target: str
    message: OwedMessage
    key: str
    hops: int = 0
    visited: tuple[str, ...] = ()
    request_id: str = ""
    is_encrypted: bool = False
    disabled_at: datetime | None = None


Work: TypeAlias = FanOut | Replay | OwedDelivery | Move | Place | BulkJob | Letter


class Undelivered(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a delivery was given up. `payload` is the JSON text that the subscriber did not get, `attributes` are those
    of the message."""

    version: int
    delivery_id: str
    message_id: str
    project: str
    queue: str
    verdict: Verdict
    status: int | None
    detail: str
    attempts: int
    given_up_at: datetime
    payload: msgspec.Raw
    attributes: msgspec.Raw = NO_ATTRIBUTES
    origin: str = ""
    hops: int = 0
    visited: tuple[str, ...] = ()


InternalMessage: TypeAlias = tuple[QueueRef, NewMessage]
"""An internal message, with the internal queue it goes to."""


class InternalPost(ReadyPost):
    """Internal messages on their way to an internal queue."""

    def __init__(
        self,
        messages: Sequence[NewMessage],
        *,
        project: str = "zaqar-notify",
        idempotency_key: IdempotencyKey | None = None,
    ) -> None:
        """`project`: the owner of the deliveries; the engine passes over projects that have their share
        already."""
        super().__init__(messages, client_id=project, idempotency_key=idempotency_key)


class _Versioned(msgspec.Struct):
    """The field that records of all versions have."""

    version: int


encode = msgspec.json.Encoder().encode
_versioned: msgspec.json.Decoder[_Versioned] = msgspec.json.Decoder(_Versioned)
_work: msgspec.json.Decoder[Work] = msgspec.json.Decoder(Work)
_undelivered: msgspec.json.Decoder[Undelivered] = msgspec.json.Decoder(Undelivered)


def internal_message(
    ref: QueueRef, work: Work, *, delay: int = 0, not_before: datetime | None = None
) -> InternalMessage:
    """A job or delivery, visible on its internal queue in `delay` seconds, or at that instant."""
    ttl = OWED_TTL_SECONDS + delay
    return ref, NewMessage(body=encode(work), ttl=ttl, delay=delay, not_before=not_before)


def by_queue(records: Iterable[InternalMessage]) -> dict[QueueRef, list[NewMessage]]:
    """The records of each internal queue, in order."""
    sorted_out: dict[QueueRef, list[NewMessage]] = {}
    for ref, message in records:
        sorted_out.setdefault(ref, []).append(message)
    return sorted_out


def left_by_earlier_releases() -> list[QueueRef]:
    """Where workers that could not read a job or delivery put it, and this release can."""
    return [later_ref(version) for version in range(2, VERSION + 1)]


def read_work(body: bytes) -> Work:
    """Read a job or delivery.

    Raises:
        WrittenLater: It is of a later version than this release knows.
        ValueError: It is malformed.
    """
    work = _read(_work, body)
    if work.version > VERSION:
        raise WrittenLater(work.version)
    return work


def read_undelivered(body: bytes) -> Undelivered:
    """Read a message of an `undelivered` queue; of a later version, the fields that this release knows.

    Raises:
        WrittenLater: It is of a later version, and can't be read by this one.
    """
    return _read(_undelivered, body)


def _read(decoder: msgspec.json.Decoder[Read], body: bytes) -> Read:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        with suppress(msgspec.DecodeError):
            version = _versioned.decode(body).version
            if version > VERSION:
                raise WrittenLater(version) from None
        raise


@cache
def say_written_later(version: int) -> None:
    """Say so, once for each version in the life of a process."""
    logger.warning(
        "A later release wrote a record; it is left to that release",
        extra={"action": "written_later", "version": version, "known": VERSION},
    )
