"""Giving up: the record of a delivery that ends, and its message for the subscription's dead-letter queue."""

from __future__ import annotations

from workers.store import RetryingStore
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import InternalMessage, Outgoing, undelivered_record
from zaqar_notify.delivery.letters import given_up_letter
from zaqar_notify.metadata import DEAD_LETTER_QUEUE, ENCRYPT, named_queue
from zaqar_notify.models import MessageType, Outcome, Subscription
from zaqar_notify.settings import Settings


class GivingUp:
    def __init__(self, store: RetryingStore, *, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def records(
        self, message: Outgoing, subscription: Subscription, *, outcome: Outcome, attempts: int
    ) -> list[InternalMessage]:
        """What is stored of a delivery that is given up after so many attempts."""
        record = undelivered_record(
            message, subscription, outcome=outcome, attempts=attempts, now=self._clock.now()
        )
        target = self._target(message, subscription)
        if target is None:
            return [record]
        letter = given_up_letter(
            message,
            subscription,
            target,
            outcome=outcome,
            attempts=attempts,
            is_encrypted=await self._encrypts(subscription),
            settings=self._settings,
        )
        return [record, letter]

    def _target(self, message: Outgoing, subscription: Subscription) -> str | None:
        """The dead-letter queue. A letter goes no further than a message does by queue subscriptions."""
        target = named_queue(subscription.options, DEAD_LETTER_QUEUE)
        if target is None or message.kind is not MessageType.NOTIFICATION:
            return None
        is_loop = target in message.visited or message.hops >= self._settings.delivery_max_hops
        return None if is_loop else target

    async def _encrypts(self, subscription: Subscription) -> bool:
        queue = await self._store.queue(subscription.queue)
        return queue is not None and bool(queue.metadata.get(ENCRYPT))
