"""Deliveries to another queue of the same project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sinks.base import Sink
from zaqar_notify.delivery import too_many_hops
from zaqar_notify.errors import StorageUnavailable, ValidationFailed
from zaqar_notify.models import Delivery, MessageType, NewMessage, Outcome, QueueRef, Verdict
from zaqar_notify.subscribers import subscribed_queue


class Relay(Protocol):
    """Posts a message to a queue as a client would, once per delivery."""

    async def __call__(
        self,
        ref: QueueRef,
        message: NewMessage,
        *,
        origin: str,
        visited: Sequence[str],
        hops: int,
        request_id: str,
    ) -> None:
        """Store `message`; a repeated `origin` stores nothing more, whichever way it comes.

        Args:
            visited: The queues that it crossed.
            hops: Queues that the message will have crossed, this one included.
            request_id: Of the request that posted it first, for logs.

        Raises:
            ValidationFailed: The queue can't take it, now or later.
            StorageUnavailable: No answer came; it may be stored.
        """


class QueueSink(Sink):
    """Posts the message to `queue:NAME`, its body unchanged; a confirmation as it is.

    Subscriptions of queues to each other can form a loop. The engine does not send a message back to a
    queue that it crossed, nor beyond the count of hops; what it wrote before it knew of that is cut here.
    """

    schemes = ("queue",)

    def __init__(self, relay: Relay, *, max_hops: int) -> None:
        self._relay = relay
        self._max_hops = max_hops

    async def deliver(self, delivery: Delivery) -> Outcome:
        if delivery.hops >= self._max_hops:
            return too_many_hops(delivery.hops)
        subscription = delivery.subscription
        name = subscribed_queue(subscription.subscriber) or ""
        ref = QueueRef(subscription.queue.project, name)
        is_notification = delivery.kind is MessageType.NOTIFICATION
        try:
            await self._relay(
                ref,
                _message(delivery),
                origin=delivery.origin if is_notification else delivery.id,
                visited=delivery.visited,
                hops=delivery.hops + 1,
                request_id=delivery.request_id,
            )
        except ValidationFailed as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        except StorageUnavailable as error:
            # Ours, and so for all: it costs no try.
            return Outcome(Verdict.POSTPONED, detail=error.for_clients)
        return Outcome(Verdict.DELIVERED)


def _message(delivery: Delivery) -> NewMessage:
    """What is posted: the message itself, or a confirmation for whoever reads the queue."""
    if delivery.kind is MessageType.NOTIFICATION:
        return delivery.message
    return NewMessage(body=delivery.payload, ttl=delivery.message.ttl)
