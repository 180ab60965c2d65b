"""Deliveries to another queue of the same project."""

from __future__ import annotations

from typing import Protocol

from sinks.base import Sink
from zaqar_notify.errors import StorageUnavailable, ValidationFailed
from zaqar_notify.models import Delivery, MessageType, NewMessage, Outcome, QueueRef, Verdict


class Relay(Protocol):
    """Posts a message to a queue as a client would, once per delivery."""

    async def __call__(
        self, ref: QueueRef, message: NewMessage, *, delivery_id: str, hops: int, request_id: str
    ) -> None:
        """Store `message`; a repeated `delivery_id` stores nothing more.

        Args:
            hops: Queues that the message will have crossed, this one included.
            request_id: Of the request that posted it first, for logs.

        Raises:
            ValidationFailed: The queue can't take it, now or later.
            StorageUnavailable: No answer came; it may be stored.
        """


class QueueSink(Sink):
    """Posts the message to `queue:NAME`, its body unchanged; a confirmation as it is.

    Subscriptions of queues to each other can form a loop. The count of hops cuts it.
    """

    schemes = ("queue",)

    def __init__(self, relay: Relay, *, max_hops: int) -> None:
        self._relay = relay
        self._max_hops = max_hops

    async def deliver(self, delivery: Delivery) -> Outcome:
        if delivery.hops >= self._max_hops:
            return Outcome(
                Verdict.REFUSED,
                detail=f"the message crossed {delivery.hops} queues already, as many as "
                "ZAQAR_DELIVERY_MAX_HOPS permits; do queues subscribe to each other in a loop?",
            )
        subscription = delivery.subscription
        ref = QueueRef(subscription.queue.project, subscription.subscriber.partition(":")[2])
        try:
            await self._relay(
                ref,
                _message(delivery),
                delivery_id=delivery.id,
                hops=delivery.hops + 1,
                request_id=delivery.request_id,
            )
        except ValidationFailed as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        except StorageUnavailable:
            return Outcome(Verdict.TRY_LATER, detail="the store gave no answer")
        return Outcome(Verdict.DELIVERED)


def _message(delivery: Delivery) -> NewMessage:
    """What is posted: the message itself, or a confirmation for whoever reads the queue."""
    if delivery.kind is MessageType.NOTIFICATION:
        return delivery.message
    return NewMessage(body=delivery.payload, ttl=delivery.message.ttl)
