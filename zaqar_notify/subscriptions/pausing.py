"""Pausing and resuming a subscription. What is owed meanwhile is held, and delivered in order afterwards."""

from __future__ import annotations

from functools import partial

from zaqar_notify.clock import new_id
from zaqar_notify.delivery import replay_job
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.lines import has_control_characters
from zaqar_notify.rules.states import MAX_DETAIL_CHARACTERS, enabled, paused
from zaqar_notify.service import Service
from zaqar_notify.storage.internal import held_ref, parked_ref
from zaqar_notify.subscriptions.leaving import leave
from zaqar_notify.subscriptions.reading import get


async def pause(
    service: Service, ref: QueueRef, subscription_id: str, *, why: str = ""
) -> Subscription:
    """Hold all deliveries to it until `resume`. One that is paused already stays as it is.

    Attempts that are under way end; within two seconds no worker begins a new one.

    Args:
        why: Shown with the subscription, one line.

    Raises:
        ValidationFailed: `why` is too long, or has several lines.
    """
    if len(why) > MAX_DETAIL_CHARACTERS:
        raise ValidationFailed(
            f"why has {len(why)} characters; at most {MAX_DETAIL_CHARACTERS} are allowed"
        )
    if has_control_characters(why):
        raise ValidationFailed("why must be one line without control characters")
    change = partial(paused, detail=why, now=service.clock.now())
    return await service.storage.subscriptions.update(
        ref, subscription_id, change, now=service.clock.now()
    )


async def resume(service: Service, ref: QueueRef, subscription_id: str) -> Subscription:
    """Let deliveries go on, whatever the reason for which they were held; those that were held come first, in order.

    No error if nothing is held.
    """
    present = await get(service, ref, subscription_id)
    return await enable(service, present)


async def enable(service: Service, subscription: Subscription) -> Subscription:
    """Enable a subscription, and have the deliveries made that were held.

    The replay is stored first: a process that dies before the change leaves a replay that ends by itself. A repeated
    request completes one that broke off.
    """
    now, ref = service.clock.now(), subscription.queue
    if subscription.disabled_at is None:
        await leave(service, ref, replay_job(subscription, service.settings))
        return subscription
    replay_id = new_id()
    job = replay_job(subscription, service.settings, replay_id=replay_id, resumed_at=now)
    await leave(service, ref, job)
    change = partial(enabled, replay_id=replay_id)
    return await service.storage.subscriptions.update(ref, subscription.id, change, now=now)


async def waiting(service: Service, subscription: Subscription) -> int:
    """How many deliveries wait for a disabled subscription."""
    async with service.storage.at(subscription.queue) as store:
        now = service.clock.now()
        return sum(
            [
                (await store.messages.stats(own(subscription.id), now=now)).total
                for own in (held_ref, parked_ref)
            ]
        )
