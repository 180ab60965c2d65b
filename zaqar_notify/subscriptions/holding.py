"""Subscriptions that a WebSocket holds: they begin, go on after an interruption, and end with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec.structs import replace

from zaqar_notify.clock import new_ordered_id
from zaqar_notify.delivery.subscribers import check_options, check_ttl, check_use
from zaqar_notify.delivery.wills import CONNECTION, SCHEME, Held
from zaqar_notify.errors import (
    Conflict,
    SubscriptionDoesNotExist,
    SubscriptionExists,
    ValidationFailed,
)
from zaqar_notify.models import JsonObject, Subscription
from zaqar_notify.rules.limits import MIN_SECONDS
from zaqar_notify.rules.states import unless_paused
from zaqar_notify.service import Service
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions.changing import store


async def hold(
    service: Service, held: Held, *, ttl: int | None = None, options: JsonObject | None = None
) -> Subscription:
    """Subscribe the client of a WebSocket. It is confirmed, because the connection proves consent.

    A subscription that a former connection of the client held goes on, with all that it missed.

    Args:
        ttl: Seconds; None takes the default.

    Raises:
        SubscriptionExists: This very connection holds one.
        QuotaExceeded: The project or the queue has as many as it may.
        ValidationFailed: A value is wrong, or the operator permits no such subscribers.
    """
    settings, now = service.settings, service.clock.now()
    if SCHEME not in settings.subscriber_types:
        raise ValidationFailed(
            "subscriber must be supported in the list of schemes "
            f"{', '.join(settings.subscriber_types)}; without a subscriber it is {SCHEME}"
        )
    ttl = (
        settings.default_subscription_ttl if ttl is None else check_ttl(ttl, now, least=MIN_SECONDS)
    )
    wanted = Subscription(
        id=new_ordered_id(now),
        queue=held.ref,
        subscriber=held.subscriber,
        ttl=ttl,
        options=check_options(options, service.kinds) | {CONNECTION: held.connection_id},
        created_at=now,
        expires_at=now + timedelta(seconds=ttl),
        confirmed=True,
    )
    check_use(wanted.subscriber, wanted.options, service.kinds, settings)
    return await store(service, wanted, now, _resuming(wanted, held))


def _resuming(wanted: Subscription, held: Held) -> Callable[[Subscription], Subscription]:
    def resume(existing: Subscription) -> Subscription:
        if held.is_holder(existing):
            raise SubscriptionExists(existing.queue.name, existing.subscriber)
        return replace(
            unless_paused(existing),
            ttl=wanted.ttl,
            expires_at=wanted.expires_at,
            options=wanted.options,
            confirmed=True,
        )

    return resume


async def is_held(service: Service, held: Held, subscription_id: str) -> bool | None:
    """Whether the connection holds the subscription still; None: there is none any more."""
    now = service.clock.now()
    found = await service.storage.subscriptions.get(held.ref, subscription_id, now=now)
    return None if found is None else held.is_holder(found)


class _TakenOver(Conflict):
    """Another connection holds the subscription."""


async def end_if_held(storage: Storage, held: Held, *, now: datetime) -> bool:
    """End the subscription of a connection that is gone, unless its client has come back; whether it ended.

    The sweep then removes it, with all that waits for it.

    Raises:
        StorageUnavailable: No answer came.
    """

    def over(subscription: Subscription) -> Subscription:
        if not held.is_holder(subscription):
            raise _TakenOver
        return replace(subscription, expires_at=now)

    found = await storage.subscriptions.of_subscriber(held.ref, held.subscriber, now=now)
    if found is None:
        return False
    with suppress(SubscriptionDoesNotExist, _TakenOver):
        await storage.subscriptions.update(held.ref, found.id, over, now=now)
        return True
    return False
