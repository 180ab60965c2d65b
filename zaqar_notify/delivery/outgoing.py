"""Messages on their way out: the text that a subscriber reads, and its identity over retries."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from zaqar_notify.delivery.records import FanOut, OwedDelivery, OwedMessage, encode
from zaqar_notify.models import MessageType, NewMessage, Outcome, QueueRef, Verdict
from zaqar_notify.rules.attributes import from_raw


class _Shown(msgspec.Struct):
    """The parts of a confirmation that are no secrets."""

    kind: str = msgspec.field(name="Message_Type")
    message: str = msgspec.field(name="Message")
    queue: str = msgspec.field(name="queue_name")


class Outgoing(msgspec.Struct, frozen=True):
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
    posted_at: datetime | None = None
    """None: it is not known."""
    replayed_by: str = ""
    """The last replay or redrive that brought it back."""


def outgoing_messages(
    work: FanOut | OwedDelivery,
    *,
    since: datetime | None = None,
    posted_at: datetime | None = None,
) -> list[Outgoing]:
    """The messages of a job or delivery, in order, each with the text for its receivers.

    Args:
        since: When it was due first, if it does not say so.
        posted_at: When its messages were posted, if it does not say so.
    """
    kind, owed = _contents(work)
    if isinstance(work, OwedDelivery):
        since = work.since or since
        posted_at = work.posted_at or posted_at
    return [_outgoing(work, message, kind, since, posted_at) for message in owed]


def notification(queue_name: str, message: NewMessage, *, delayed_queue: bool) -> bytes:
    """The JSON text that a subscriber reads: exactly Zaqar's keys, the body as it was posted."""
    delay = b'"delay": %d, ' % message.delay if delayed_queue else b""
    return b'{"ttl": %d, %b"body": %b, "Message_Type": "Notification", "queue_name": %b}' % (
        message.ttl,
        delay,
        message.body,
        encode(queue_name),
    )


def shown_payload(outgoing: Outgoing) -> bytes:
    """The payload as the project may see it. A confirmation is shown without its signature and its link: they are for the
    subscriber alone, as the proof of its consent."""
    if outgoing.kind is MessageType.NOTIFICATION:
        return outgoing.payload
    return encode(msgspec.json.decode(outgoing.payload, type=_Shown))


def delivery_id(subscription_id: str, message_id: str) -> str:
    """The idempotency key: the same over retries, and over a job that is run again."""
    digest = hashlib.sha256(f"{subscription_id}:{message_id}".encode()).hexdigest()
    return f"msg_{digest[:32]}"


def too_many_hops(hops: int) -> Outcome:
    """The end of a message that crossed as many queues as it may."""
    return Outcome(
        Verdict.REFUSED,
        detail=f"the message crossed {hops} queues already, as many as "
        "ZAQAR_DELIVERY_MAX_HOPS permits; do queues subscribe to each other in a loop?",
    )


def _contents(work: FanOut | OwedDelivery) -> tuple[MessageType, list[OwedMessage]]:
    if isinstance(work, FanOut):
        return MessageType.NOTIFICATION, work.messages
    return work.kind, [work.message]


def _outgoing(
    work: FanOut | OwedDelivery,
    owed: OwedMessage,
    kind: MessageType,
    since: datetime | None,
    posted_at: datetime | None,
) -> Outgoing:
    attributes = from_raw(owed.attributes)
    message = NewMessage(bytes(owed.body), owed.ttl, owed.delay or 0, attributes=attributes)
    ref = QueueRef(work.project, work.queue)
    is_notification = kind is MessageType.NOTIFICATION
    return Outgoing(
        message_id=owed.id,
        message=message,
        payload=notification(ref.public_name, message, delayed_queue=owed.delay is not None)
        if is_notification
        else message.body,
        owed=owed,
        kind=kind,
        hops=work.hops,
        request_id=work.request_id,
        visited=(*work.visited, work.queue),
        origin=owed.origin or _origin(work.queue, owed.id),
        since=since,
        posted_at=posted_at,
        replayed_by=work.replayed_by if isinstance(work, OwedDelivery) else "",
    )


def _origin(queue: str, message_id: str) -> str:
    """The id that all copies of a message share: a queue takes one copy."""
    digest = hashlib.sha256(f"{queue}:{message_id}".encode()).hexdigest()
    return f"msg_{digest[:32]}"
