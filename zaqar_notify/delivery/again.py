"""Deliveries that are owed again: they were given up, or their message is still on its queue."""

from __future__ import annotations

import msgspec

from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    PLAIN,
    InternalMessage,
    OwedDelivery,
    OwedMessage,
    Undelivered,
    internal_message,
)
from zaqar_notify.models import Message, MessageType, QueueRef
from zaqar_notify.rules.attributes import raw
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import retry_ref


class Again(msgspec.Struct, frozen=True):
    """A message that is owed again, with the way that it came."""

    message: OwedMessage
    hops: int = 0
    visited: tuple[str, ...] = ()


class _Notification(msgspec.Struct):
    """A payload as `outgoing.notification` writes it."""

    kind: str = msgspec.field(name="Message_Type")
    ttl: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")
    delay: int | None = None


def of_undelivered(record: Undelivered) -> Again | None:
    """The message of a delivery that was given up; None: it was no notification."""
    payload = msgspec.json.decode(record.payload, type=_Notification)
    if payload.kind != MessageType.NOTIFICATION:
        return None
    message = OwedMessage(
        record.message_id,
        payload.ttl,
        payload.body,
        payload.delay,
        record.origin,
        attributes=record.attributes,
    )
    return Again(message, record.hops, record.visited)


def of_message(message: Message) -> Again:
    """A message that is on its queue."""
    body = msgspec.Raw(message.body)
    return Again(OwedMessage(message.id, message.ttl, body, attributes=raw(message.attributes)))


def of_letter(message: Message, message_id: str, attributes: bytes | None) -> Again:
    """A letter, as the message that it was."""
    body = msgspec.Raw(message.body)
    return Again(OwedMessage(message_id, message.ttl, body, attributes=raw(attributes)))


def owed_again(
    ref: QueueRef, subscription_id: str, again: Again, *, replayed_by: str, settings: Settings
) -> InternalMessage:
    """The delivery, due at once, with attempts and age counted anew."""
    delivery = OwedDelivery(
        PLAIN,
        ref.project,
        ref.name,
        subscription_id,
        again.message,
        hops=again.hops,
        visited=again.visited,
        replayed_by=replayed_by,
    )
    return internal_message(retry_ref(partition_of(ref, settings.delivery_partitions)), delivery)
