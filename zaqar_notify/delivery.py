"""What is owed to subscribers, as messages on internal queues.

| internal queue | a message is |
|---|---|
| `outbox.<partition>` | a fan-out job: the messages of one post, for all its queue's subscriptions; or a replay |
| `retry.<partition>` | a delivery: one message for one subscription, delayed until its next attempt |
| `parked.<subscription id>` | a delivery whose try is due, for a receiver that fails or has too much before it |
| `held.<subscription id>` | a delivery for a subscription that is disabled, until it is replayed |
| `undelivered.<subscription id>` | the record of a delivery that was given up, and why |
| `poison` | a job or delivery that nobody could finish |
| `later.<version>` | a job or delivery as a later release wrote it, put there by a worker that could not read it |

They are JSON, with the clients' bodies spliced in and taken out again as the bytes they are. Nothing
here talks to a store or a network.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import TypeAlias, TypeVar
from zlib import crc32

import msgspec

from zaqar_notify.clock import new_id
from zaqar_notify.internal import (
    POISON_REF,
    held_ref,
    later_ref,
    outbox_ref,
    parked_ref,
    retry_ref,
    undelivered_ref,
)
from zaqar_notify.models import (
    DeadLetter,
    MessageType,
    NewMessage,
    Outcome,
    Queue,
    QueueRef,
    Subscription,
    Verdict,
)
from zaqar_notify.settings import Settings
from zaqar_notify.signing import confirmation_paths, sign_url
from zaqar_notify.storage.base import IdempotencyKey, Post

logger = logging.getLogger(__name__)

Read = TypeVar("Read")

VERSION = 2
"""Of the records below. It is raised with a change that earlier releases must not overlook: they leave
the record to a worker of this version. A new field with a default that they may overlook needs none."""

_PLAIN = 1
"""Of the records that every release can read. Those of earlier releases move held deliveries alone, so
the replay of parked ones is of version 2."""

OWED_TTL_SECONDS = 10 * 365 * 86400
"""Ten years: what is owed ends by being delivered, given up or held, never by the passing of time."""

UNDELIVERED_TTL_SECONDS = 14 * 86400
"""How long a record of a delivery given up can be read, and what is held outlives its subscription."""

MAX_VISITED = 32
"""Names of queues that a job carries: of a longer way the first one and the last. The first has the
message from a client; of the others each knows that it has had a copy."""

MIN_POISON_CLAIMS = 10
POISON_SECONDS = 600
"""A job counts as poison after ten claims at least, and as many as leases have lapsed in ten minutes: by
then as many workers have died of it or let it lapse. Fewer would condemn jobs that were only in hand
each time when a worker was killed for other reasons, ten times within a minute or two."""

_EXPIRES_FORMAT = "%Y-%m-%dT%H:%M:%S"


class WrittenLater(ValueError):
    """A record of a later version than this release knows."""

    def __init__(self, version: int) -> None:
        super().__init__(f"Version {version} of a record is later than {VERSION}")
        self.version = version


class OwedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client's message inside a record. `delay` is None on a queue that is not a delayed queue.

    `origin` is kept by all copies that queue subscriptions make of a message; empty: this is none.
    """

    id: str
    ttl: int
    body: msgspec.Raw
    delay: int | None = None
    origin: str = ""


class FanOut(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="fan_out"):
    """The messages of one post that are due together, to be sent to every subscription.

    `visited` are the queues that they crossed before this one, by queue subscriptions, the last ones
    last.
    """

    version: int
    project: str
    queue: str
    messages: list[OwedMessage]
    hops: int = 0
    request_id: str = ""
    visited: tuple[str, ...] = ()


class Replay(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="replay"):
    """Deliver what is parked and held for a subscription.

    The one that the subscription names by `id` is its probe, too: while the receiver fails, it comes
    back again and again. It did so `failures` times, `failed_at` the last time.
    """

    version: int
    project: str
    queue: str
    subscription_id: str
    id: str = ""
    failures: int = 0
    failed_at: datetime | None = None


class OwedDelivery(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="job", tag="deliver"):
    """One message for one subscription; `attempt` is the number of the next try, from 1.

    For a confirmation the message's body is the payload itself. `since` is when the delivery was due
    first, `due_at` when the try of a parked one was.
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


Work: TypeAlias = FanOut | Replay | OwedDelivery


class Undelivered(msgspec.Struct, frozen=True):
    """Why a delivery was given up. `payload` is the JSON text that the subscriber did not get."""

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


class Parcel(msgspec.Struct, frozen=True):
    """A message ready to be sent to any subscription of its queue."""

    message_id: str
    message: NewMessage
    payload: bytes
    owed: OwedMessage
    kind: MessageType
    hops: int
    request_id: str
    visited: tuple[str, ...]
    """Queues that it crossed, the one it is on last."""
    origin: str
    since: datetime | None
    """When it was due first; None: it is not known yet."""


Record: TypeAlias = tuple[QueueRef, NewMessage]
"""An internal message, with the internal queue it goes to."""


class Owed(Post):
    """Internal messages on their way to an internal queue. Nobody subscribes to those."""

    def __init__(
        self,
        messages: Sequence[NewMessage],
        *,
        project: str = "zaqar-notify",
        idempotency_key: IdempotencyKey | None = None,
    ) -> None:
        """`project`: whose deliveries they are about; the engine passes over projects that have their
        share already."""
        self.client_id = project
        self.idempotency_key = idempotency_key
        self._messages = messages

    def settle(self, queue: Queue | None) -> Sequence[NewMessage]:
        return self._messages

    def jobs(
        self, queue: Queue | None, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[Record]:
        return ()


class _Head(msgspec.Struct):
    """What a record of any version begins with."""

    version: int


_encode = msgspec.json.Encoder().encode
_head: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)
_work: msgspec.json.Decoder[Work] = msgspec.json.Decoder(Work)
_undelivered: msgspec.json.Decoder[Undelivered] = msgspec.json.Decoder(Undelivered)


def poison_rule(lease_seconds: int) -> DeadLetter:
    """When workers whose leases are so long put a job aside."""
    claims = max(MIN_POISON_CLAIMS, -(-POISON_SECONDS // lease_seconds))
    return DeadLetter(POISON_REF, claims, ttl=None)


def left_by_earlier_releases() -> list[QueueRef]:
    """Where workers that could not read a job or delivery put it, and this release can."""
    return [later_ref(version) for version in range(2, VERSION + 1)]


@lru_cache(maxsize=65536)
def partition_of(queue: QueueRef, partitions: int) -> int:
    """The same in every process and release: workers share the partitions out."""
    return crc32(f"{queue.project}\n{queue.name}".encode()) % partitions


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
) -> list[Record]:
    """The jobs that notify of a post: one for each distinct delay, visible when that has passed.

    A message that expires before it is due has none.

    Args:
        ids: The messages' ids, in the same order.
        delayed_queue: The queue's `_default_message_delay` is not zero: subscribers see `delay`. A
            message with a delay shows that by itself.
        hops: Queues that the post has crossed by queue subscriptions.
        visited: Their names.
        origin: Of the one message, if it is a copy from another queue.
    """
    due: dict[int, list[OwedMessage]] = {}
    for message_id, message in zip(ids, messages, strict=True):
        shown = message.delay if delayed_queue or message.delay else None
        owed = OwedMessage(message_id, message.ttl, msgspec.Raw(message.body), shown, origin)
        wait = 0 if settings.notify_delayed_at_once else message.delay
        if wait >= message.ttl:
            continue
        due.setdefault(wait, []).append(owed)
    outbox = outbox_ref(partition_of(ref, settings.delivery_partitions))
    return [
        _record(
            outbox,
            FanOut(
                _PLAIN,
                ref.project,
                ref.name,
                together,
                hops,
                request_id,
                _bounded(visited),
            ),
            delay=delay,
        )
        for delay, together in due.items()
    ]


def _bounded(visited: Sequence[str]) -> tuple[str, ...]:
    return (*visited[:1], *visited[1:][-(MAX_VISITED - 1) :])


def confirmation_job(
    subscription: Subscription, kind: MessageType, *, settings: Settings, now: datetime
) -> Record:
    """The delivery of a request to confirm, or of a farewell with the link to come back.

    Needs `signed_url_secrets`. The link of a request lives as long as the subscription, that of a
    farewell for the default life of a subscription.
    """
    message = NewMessage(
        body=_confirmation(subscription, kind, settings=settings, now=now), ttl=subscription.ttl
    )
    owed = OwedMessage(new_id(), message.ttl, msgspec.Raw(message.body))
    ref = subscription.queue
    delivery = OwedDelivery(_PLAIN, ref.project, ref.name, subscription.id, owed, kind=kind)
    # Workers are rung for the outbox alone.
    return _record(outbox_ref(partition_of(ref, settings.delivery_partitions)), delivery)


def replay_job(
    subscription: Subscription,
    settings: Settings,
    *,
    delay: int = 0,
    replay_id: str = "",
    failures: int = 0,
    failed_at: datetime | None = None,
) -> Record:
    """The job that delivers what is parked and held; without an id, for one that is enabled again."""
    ref = subscription.queue
    outbox = outbox_ref(partition_of(ref, settings.delivery_partitions))
    version = VERSION if replay_id else _PLAIN
    replay = Replay(version, ref.project, ref.name, subscription.id, replay_id, failures, failed_at)
    return _record(outbox, replay, delay=delay)


def notification(queue_name: str, message: NewMessage, *, delayed_queue: bool) -> bytes:
    """The JSON text that a subscriber reads: exactly Zaqar's keys, the body as it was posted."""
    delay = b'"delay": %d, ' % message.delay if delayed_queue else b""
    return b'{"ttl": %d, %b"body": %b, "Message_Type": "Notification", "queue_name": %b}' % (
        message.ttl,
        delay,
        message.body,
        _encode(queue_name),
    )


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
    """Read a message of an `undelivered` queue; of a later version, what this release knows of it.

    Raises:
        WrittenLater: It is of a later version, and can't be read by this one.
    """
    return _read(_undelivered, body)


def _read(decoder: msgspec.json.Decoder[Read], body: bytes) -> Read:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        with suppress(msgspec.DecodeError):
            version = _head.decode(body).version
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


def parcels(work: FanOut | OwedDelivery, *, since: datetime | None = None) -> list[Parcel]:
    """The messages of a job or delivery, in order, each with what its receivers are to read.

    Args:
        since: When it was due first, if it does not say so.
    """
    kind, owed = _contents(work)
    if isinstance(work, OwedDelivery):
        since = work.since or since
    return [_parcel(work, message, kind, since) for message in owed]


class _Link(msgspec.Struct):
    expires: str = msgspec.field(name="URL-Expires")


def link_expires_at(parcel: Parcel) -> datetime | None:
    """Until when the link of a confirmation is good; None for what is no confirmation."""
    if parcel.kind is MessageType.NOTIFICATION:
        return None
    link = msgspec.json.decode(parcel.payload, type=_Link)
    return datetime.strptime(link.expires, _EXPIRES_FORMAT).replace(tzinfo=UTC)


def delivery_id(subscription_id: str, message_id: str) -> str:
    """The idempotency key: the same over retries, and over a job that is run again."""
    digest = hashlib.sha256(f"{subscription_id}:{message_id}".encode()).hexdigest()
    return f"msg_{digest[:32]}"


def _origin(queue: str, message_id: str) -> str:
    """What all copies of a message have in common: no queue takes a second one."""
    digest = hashlib.sha256(f"{queue}:{message_id}".encode()).hexdigest()
    return f"msg_{digest[:32]}"


def too_many_hops(hops: int) -> Outcome:
    """The end of a message that crossed as many queues as it may."""
    return Outcome(
        Verdict.REFUSED,
        detail=f"the message crossed {hops} queues already, as many as "
        "ZAQAR_DELIVERY_MAX_HOPS permits; do queues subscribe to each other in a loop?",
    )


def retry_record(
    parcel: Parcel, subscription: Subscription, *, attempt: int, delay: int, settings: Settings
) -> Record:
    """A delivery whose try number `attempt` is due in `delay` seconds."""
    partition = partition_of(subscription.queue, settings.delivery_partitions)
    return _record(retry_ref(partition), _delivery(parcel, subscription, attempt), delay=delay)


def parked_record(
    parcel: Parcel, subscription: Subscription, *, attempt: int, due_at: datetime
) -> Record:
    """A delivery that waits, due, until its receiver can take it."""
    delivery = _delivery(parcel, subscription, attempt)
    delivery = msgspec.structs.replace(delivery, due_at=due_at)
    return parked_ref(subscription.id), NewMessage(body=_encode(delivery), ttl=OWED_TTL_SECONDS)


def held_record(parcel: Parcel, subscription: Subscription, *, now: datetime) -> Record:
    """A delivery that waits for its subscription to be enabled; its attempts begin anew then.

    It lives a little longer than the subscription: nobody can ask for it afterwards.
    """
    remaining = int((subscription.expires_at - now).total_seconds())
    ttl = min(OWED_TTL_SECONDS, max(0, remaining) + UNDELIVERED_TTL_SECONDS)
    # Its age is counted from the replay on, too.
    delivery = _delivery(msgspec.structs.replace(parcel, since=None), subscription, attempt=1)
    return held_ref(subscription.id), NewMessage(body=_encode(delivery), ttl=ttl)


def later_record(body: bytes, version: int) -> Record:
    """A job or delivery that this release can't read, for one that can."""
    return later_ref(version), NewMessage(body=body, ttl=OWED_TTL_SECONDS)


def undelivered_record(
    parcel: Parcel, subscription: Subscription, *, outcome: Outcome, attempts: int, now: datetime
) -> Record:
    """The record of a delivery that was given up after `attempts` tries."""
    record = Undelivered(
        version=_PLAIN,
        delivery_id=delivery_id(subscription.id, parcel.message_id),
        message_id=parcel.message_id,
        project=subscription.queue.project,
        queue=subscription.queue.name,
        verdict=outcome.verdict,
        status=outcome.status,
        detail=": ".join(filter(None, (outcome.detail, outcome.excerpt))),
        attempts=attempts,
        given_up_at=now,
        payload=msgspec.Raw(parcel.payload),
    )
    ref = undelivered_ref(subscription.id)
    return ref, NewMessage(body=_encode(record), ttl=UNDELIVERED_TTL_SECONDS)


def by_queue(records: Iterable[Record]) -> dict[QueueRef, list[NewMessage]]:
    """The records of each internal queue, in order."""
    sorted_out: dict[QueueRef, list[NewMessage]] = {}
    for ref, message in records:
        sorted_out.setdefault(ref, []).append(message)
    return sorted_out


def _record(ref: QueueRef, work: Work, *, delay: int = 0) -> Record:
    return ref, NewMessage(body=_encode(work), ttl=OWED_TTL_SECONDS + delay, delay=delay)


def _contents(work: FanOut | OwedDelivery) -> tuple[MessageType, list[OwedMessage]]:
    if isinstance(work, FanOut):
        return MessageType.NOTIFICATION, work.messages
    return work.kind, [work.message]


def _parcel(
    work: FanOut | OwedDelivery, owed: OwedMessage, kind: MessageType, since: datetime | None
) -> Parcel:
    message = NewMessage(body=bytes(owed.body), ttl=owed.ttl, delay=owed.delay or 0)
    is_notification = kind is MessageType.NOTIFICATION
    return Parcel(
        message_id=owed.id,
        message=message,
        payload=notification(work.queue, message, delayed_queue=owed.delay is not None)
        if is_notification
        else message.body,
        owed=owed,
        kind=kind,
        hops=work.hops,
        request_id=work.request_id,
        visited=(*work.visited, work.queue),
        origin=owed.origin or _origin(work.queue, owed.id),
        since=since,
    )


def _delivery(parcel: Parcel, subscription: Subscription, attempt: int) -> OwedDelivery:
    return OwedDelivery(
        version=_PLAIN,
        project=subscription.queue.project,
        queue=subscription.queue.name,
        subscription_id=subscription.id,
        message=parcel.owed,
        attempt=attempt,
        hops=parcel.hops,
        request_id=parcel.request_id,
        kind=parcel.kind,
        visited=parcel.visited[:-1],
        since=parcel.since,
    )


def _confirmation(
    subscription: Subscription, kind: MessageType, *, settings: Settings, now: datetime
) -> bytes:
    """Zaqar's payload, whose keys its receivers copy into the headers of the confirming request."""
    queue = subscription.queue.name
    paths = confirmation_paths(subscription)
    if kind is MessageType.UNSUBSCRIBE_CONFIRMATION:
        expires_at = now + timedelta(seconds=settings.default_subscription_ttl)
        sentence = (
            f"You have unsubscribed successfully to the queue: {queue}, "
            "you can resubscribe it by using confirmed=True."
        )
    else:
        expires_at = subscription.expires_at
        sentence = f"You have chosen to subscribe to the queue: {queue}"
    signature = sign_url(
        settings.signed_url_secrets[0].get_secret_value(),
        paths=paths,
        methods=["PUT"],
        project=subscription.queue.project,
        expires=expires_at,
    )
    link = {"WSGISubscribeURL": settings.public_url.rstrip("/") + paths[0]}
    payload = {
        **(link if settings.public_url else {}),
        "Message_Type": kind.value,
        "Message": sentence,
        "URL-Signature": signature,
        "URL-Methods": "PUT",
        "URL-Paths": ",".join(paths),
        "X-Project-ID": subscription.queue.project,
        "URL-Expires": expires_at.strftime(_EXPIRES_FORMAT),
        "SubscribeBody": {"confirmed": True},
        "UnsubscribeBody": {"confirmed": False},
        "queue_name": queue,
    }
    return json.dumps(payload).encode()
