"""A test message for one subscription, to see whether its deliveries arrive."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from zaqar_notify.clock import new_id
from zaqar_notify.confirmations import asks_to_confirm
from zaqar_notify.delivery import OwedDelivery, OwedMessage, delivery_id
from zaqar_notify.delivery.records import PLAIN, internal_message
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import QueueRef
from zaqar_notify.service import Service
from zaqar_notify.storage.internal import outbox_ref
from zaqar_notify.subscriptions.leaving import leave
from zaqar_notify.subscriptions.reading import get


class Tried(NamedTuple):
    """The message is on no queue; its id finds the delivery in logs."""

    message_id: str
    delivery_id: str


async def send_test(service: Service, ref: QueueRef, subscription_id: str, body: bytes) -> Tried:
    """Deliver a message to this subscription alone, as if it had been posted: with its options, retries and state, but
    past its filter.

    Args:
        body: JSON text.

    Raises:
        ValidationFailed: The subscription has not confirmed, and must.
    """
    subscription = await get(service, ref, subscription_id)
    if asks_to_confirm(service.settings) and not subscription.confirmed:
        raise ValidationFailed(
            "The subscription is not confirmed, so it gets no messages: let the subscriber confirm it first"
        )
    message_id = new_id()
    owed = OwedMessage(message_id, service.settings.default_message_ttl, msgspec.Raw(body))
    record = OwedDelivery(PLAIN, ref.project, ref.name, subscription.id, owed)
    # Workers are rung for the outbox alone.
    await leave(service, ref, internal_message(outbox_ref(service.partition_of(ref)), record))
    return Tried(message_id, delivery_id(subscription.id, message_id))
