"""Deliveries to another queue of the same project."""

from __future__ import annotations

import msgspec

from sinks.forming import Unformed, formed
from zaqar_notify.delivery import too_many_hops
from zaqar_notify.delivery.forms import TEXT, has_own_form
from zaqar_notify.delivery.kinds import Kind, Relay, Sink
from zaqar_notify.delivery.subscribers import subscribed_queue
from zaqar_notify.errors import (
    QUEUE_NAME_RULE,
    FilterFailed,
    NotPermitted,
    QuotaExceeded,
    StorageUnavailable,
    ValidationFailed,
)
from zaqar_notify.models import Delivery, MessageType, NewMessage, Outcome, QueueRef, Verdict
from zaqar_notify.rules.formats import FORMAT_KEY, Format, Forms
from zaqar_notify.rules.names import is_queue_name
from zaqar_notify.rules.schedules import SNS_MANAGED
from zaqar_notify.settings import Settings

OURS_PAUSE_SECONDS = 30
"""After which a queue is tried again whose project has as many messages or queues as it may, or whose post a message
filter failed at."""


class QueueKind(Kind):
    """`queue:NAME`, a queue of the subscription's project."""

    schemes = ("queue",)
    sns_schedule = SNS_MANAGED
    forms = Forms(
        frozenset({Format.ZAQAR, Format.RAW, Format.CLOUDEVENTS, Format.SNS}), takes_templates=True
    )

    def check(self, uri: str, settings: Settings) -> None:
        if not is_queue_name(subscribed_queue(uri) or ""):
            raise ValidationFailed(f"subscriber must be queue: and a queue name, {QUEUE_NAME_RULE}")

    def sink(self, settings: Settings, relay: Relay) -> Sink:
        return QueueSink(relay, settings)


class QueueSink(Sink):
    """Posts the message to `queue:NAME`, its body unchanged unless a form is asked for; a confirmation as it is.

    Subscriptions of queues to each other can form a loop. The engine does not send a message back to a queue
    that it crossed, nor beyond the limit of hops. Deliveries that were written before
    these rules, or under a higher limit, are cut here.
    """

    def __init__(self, relay: Relay, settings: Settings) -> None:
        self._relay = relay
        self._max_hops = settings.delivery_max_hops
        self._settings = settings

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
                await self._message(delivery),
                origin=delivery.origin if is_notification else delivery.id,
                visited=delivery.visited,
                hops=delivery.hops + 1,
                request_id=delivery.request_id,
            )
        except (QuotaExceeded, FilterFailed) as error:
            # The project makes room, or is given more; or the filter is mended: until then its messages wait.
            return Outcome(
                Verdict.POSTPONED, detail=str(error), retry_after_seconds=OURS_PAUSE_SECONDS
            )
        except Unformed as unformed:
            return unformed.outcome
        except (ValidationFailed, NotPermitted) as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        except StorageUnavailable as error:
            # Ours, and so for all: it costs no try.
            return Outcome(Verdict.POSTPONED, detail=error.for_clients)
        return Outcome(Verdict.DELIVERED)

    async def _message(self, delivery: Delivery) -> NewMessage:
        """The message to post: the message itself, in the form that is asked for, or a confirmation for the readers of
        the queue."""
        message = delivery.message
        if delivery.kind is not MessageType.NOTIFICATION:
            return NewMessage(body=delivery.payload, ttl=message.ttl)
        options = delivery.subscription.options
        if not has_own_form(options) or options.get(FORMAT_KEY) == Format.ZAQAR:
            return message
        form = await formed(delivery, self._settings, self._relay)
        # The body of a message is JSON.
        body = msgspec.json.encode(form.body.decode()) if form.content_type == TEXT else form.body
        return msgspec.structs.replace(message, body=body)
