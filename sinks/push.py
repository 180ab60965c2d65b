"""Deliveries to the client of a WebSocket: they wait on a queue of the subscription's own.

The process of the API that holds the WebSocket takes them from there. So a delivery costs one write, however
slow the client is, and a client that comes back in time has missed nothing.
"""

from __future__ import annotations

from zaqar_notify.delivery import pushed_record
from zaqar_notify.delivery.kinds import Kind, Relay, Sink
from zaqar_notify.delivery.wills import CONNECTION, SCHEME
from zaqar_notify.errors import StorageUnavailable, ValidationFailed
from zaqar_notify.models import Delivery, JsonObject, Outcome, Verdict
from zaqar_notify.rules.schedules import SNS_MANAGED
from zaqar_notify.settings import Settings


class PushKind(Kind):
    """`websocket:CLIENT-ID`, the client of a WebSocket; only a WebSocket makes such subscriptions."""

    schemes = (SCHEME,)
    sns_schedule = SNS_MANAGED

    def check(self, uri: str, settings: Settings) -> None:
        raise ValidationFailed(
            "subscriber can't be websocket: send subscription_create without a subscriber on the WebSocket itself"
        )

    def check_use(self, options: JsonObject) -> None:
        if CONNECTION not in options:
            raise ValidationFailed(
                f"options: those of a WebSocket's subscription must keep {CONNECTION} as it is"
            )

    def sink(self, settings: Settings, relay: Relay) -> Sink:
        return PushSink(relay)


class PushSink(Sink):
    """Appends the delivery to the subscription's own queue."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def deliver(self, delivery: Delivery) -> Outcome:
        internal, record = pushed_record(delivery)
        try:
            await self._relay.leave(delivery.subscription.queue, internal, record)
        except StorageUnavailable as error:
            # Ours, and so for all: it costs no try.
            return Outcome(Verdict.POSTPONED, detail=error.for_clients)
        return Outcome(Verdict.DELIVERED)
