"""Subscriptions and their deliveries as JSON on the wire."""

from __future__ import annotations

import orjson

from api.zaqar.shapes import age, instant
from zaqar_notify.clock import Clock
from zaqar_notify.models import DisabledReason, JsonObject, QueueRef, Subscription
from zaqar_notify.rules.attributes import from_raw
from zaqar_notify.service import Service
from zaqar_notify.storage.suppressions import Suppression
from zaqar_notify.subscriptions import GivenUp


def subscription(
    subscription: Subscription, service: Service, *, waiting: int | None = None
) -> JsonObject:
    """Zaqar's object. While deliveries are held, it says since when and why, and how many wait where that is given."""
    clock = service.clock
    return {
        "id": subscription.id,
        "source": subscription.queue.public_name,
        "subscriber": subscription.subscriber,
        "ttl": subscription.ttl,
        "age": age(subscription.created_at, clock.now()),
        "options": service.kinds.shown(subscription.options),
        "confirmed": subscription.confirmed,
        "expires_at": instant(clock.on_host(subscription.expires_at)),
        **_disabled(subscription, clock, waiting),
    }


def _disabled(subscription: Subscription, clock: Clock, waiting: int | None) -> JsonObject:
    since = subscription.disabled_at
    if since is None:
        return {}
    reason = subscription.disabled_reason or DisabledReason.GONE
    shown = {
        "reason": reason.value,
        "since": instant(clock.on_host(since)),
        "detail": subscription.disabled_detail,
    }
    return {"disabled": shown if waiting is None else {**shown, "waiting": waiting}}


def given_up(one: GivenUp, clock: Clock) -> JsonObject:
    """A delivery that was given up, with the message that the subscriber did not get."""
    record = one.record
    shown: JsonObject = {
        "id": one.id,
        "delivery_id": record.delivery_id,
        "message_id": record.message_id,
        "verdict": record.verdict.value,
        "status": record.status,
        "detail": record.detail,
        "attempts": record.attempts,
        "given_up_at": instant(clock.on_host(record.given_up_at)),
        "payload": orjson.Fragment(bytes(record.payload)),
    }
    if (attributes := from_raw(record.attributes)) is not None:
        shown["attributes"] = orjson.Fragment(attributes)
    return shown


def suppression(one: Suppression, clock: Clock) -> JsonObject:
    return {
        "id": one.id,
        "subscriber": one.subscriber,
        "source": QueueRef("", one.queue).public_name,
        "subscription_id": one.subscription_id,
        "suppressed_at": instant(clock.on_host(one.suppressed_at)),
    }
