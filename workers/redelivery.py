"""Redelivery: the next attempt of deliveries whose retry is due, and the first of confirmations."""

from __future__ import annotations

from collections.abc import Sequence

from workers.attempts import Batch
from workers.receivers import Receiver, Receivers
from workers.recorder import Recorder
from workers.slots import Slots
from workers.store import RetryingStore
from workers.taken import Taken, working_on
from workers.untried import Untried
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import OwedDelivery, outgoing_messages
from zaqar_notify.models import MessageType, QueueRef
from zaqar_notify.rules.pacing import pace_of


class Redeliveries:
    def __init__(
        self,
        store: RetryingStore,
        receivers: Receivers,
        slots: Slots[Batch],
        untried: Untried,
        recorder: Recorder,
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._receivers = receivers
        self._slots = slots
        self._untried = untried
        self._recorder = recorder
        self._clock = clock

    async def run(self, owed: Sequence[tuple[Taken, OwedDelivery]]) -> None:
        """Have deliveries tried, or stored again where that can't begin soon."""
        receivers: dict[tuple[QueueRef, str], Receiver | None] = {}
        turned_away = []
        with working_on(taken for taken, _ in owed):
            for taken, delivery in owed:
                if not taken.is_held(self._clock.now()):
                    continue
                ref = QueueRef(delivery.project, delivery.queue)
                key = (ref, delivery.subscription_id)
                if key not in receivers:
                    receivers[key] = await self._receiver(ref, delivery.subscription_id)
                batch = await self._batch(taken, delivery, receivers[key])
                if batch is not None and not self._slots.offer(batch):
                    turned_away.append(batch)
            await self._untried.defer(turned_away)

    async def _receiver(self, ref: QueueRef, subscription_id: str) -> Receiver | None:
        subscription = await self._store.subscription(ref, subscription_id)
        return None if subscription is None else self._receivers.of(subscription)

    async def _batch(
        self, taken: Taken, delivery: OwedDelivery, receiver: Receiver | None
    ) -> Batch | None:
        """The next attempt of a delivery, unless its subscription is not to be notified now."""
        if receiver is None:
            self._recorder.dropped(delivery, "gone")
            return None
        subscription = receiver.subscription
        is_notification = delivery.kind is MessageType.NOTIFICATION
        if is_notification and not self._receivers.may_notify(subscription):
            self._recorder.dropped(delivery, "unconfirmed")
            return None
        if subscription.confirmed and not is_notification:
            self._recorder.dropped(delivery, "confirmed")
            return None
        # The record of a first attempt was stored when its message was.
        posted_at = taken.message.posted_at if delivery.attempt == 1 else None
        messages = outgoing_messages(delivery, since=taken.due_at, posted_at=posted_at)
        if is_notification and pace_of(subscription.options) is not None:
            await self._untried.park(messages, subscription, attempt=delivery.attempt)
            return None
        if subscription.disabled_at is not None and is_notification:
            await self._untried.hold(messages, subscription)
            return None
        return Batch(receiver, messages, delivery.attempt, taken)
