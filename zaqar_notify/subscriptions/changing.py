"""Making, changing, confirming and deleting subscriptions.

A change or a confirmation enables a subscription again that was disabled because its receiver wanted no
more deliveries, or only failed. The deliveries that were held meanwhile are then made. One that is paused stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

from msgspec.structs import replace

from zaqar_notify.clock import new_ordered_id
from zaqar_notify.confirmations import ConfirmAt, ask, asks_to_confirm
from zaqar_notify.delivery import signed_paths
from zaqar_notify.delivery.subscribers import (
    check_dead_letter_queue,
    check_options,
    check_subscriber,
    check_ttl,
    check_use,
)
from zaqar_notify.delivery.trusts import Asker, with_trust, without_trust
from zaqar_notify.errors import (
    ConfirmationNotSigned,
    Conflict,
    SubscriptionExists,
    SubscriptionNotChanged,
    ValidationFailed,
    called,
)
from zaqar_notify.models import JsonObject, MessageType, QueueRef, Subscription
from zaqar_notify.rules.pacing import MOST_ORDERED, ORDER_KEY, is_ordered
from zaqar_notify.service import Service
from zaqar_notify.subscriptions.pausing import enable
from zaqar_notify.subscriptions.reading import get
from zaqar_notify.subscriptions.suppressing import let_in_again

Check: TypeAlias = Callable[[Subscription], None]
"""Raises an error if a subscription may not be changed in its present state."""


Renew: TypeAlias = Callable[[Subscription], Subscription]
"""From a present subscription of the same subscriber to its new state."""


async def create(
    service: Service,
    ref: QueueRef,
    *,
    subscriber: str,
    ttl: int | None = None,
    options: JsonObject | None = None,
    confirm_at: ConfirmAt,
    asker: Asker | None = None,
    renews: bool = True,
) -> Subscription:
    """Subscribe to a queue, which is created when absent.

    An unconfirmed subscription of the same subscriber gets the new ttl and options, is enabled, and
    is asked again to confirm.

    Args:
        ttl: Seconds; None takes the default.
        asker: The user of the request, if Keystone knows the user.
        renews: Whether an unconfirmed subscription of the same subscriber is renewed; else it is refused.

    Raises:
        SubscriptionExists: One of the same subscriber is confirmed, or may not be renewed.
        QuotaExceeded: The project or the queue has as many as it may.
        ValidationFailed: A value is wrong, or the subscriber needs rights that the asker can't give.
    """
    settings, now = service.settings, service.clock.now()
    ttl = settings.default_subscription_ttl if ttl is None else check_ttl(ttl, now)
    wanted = Subscription(
        id=new_ordered_id(now),
        queue=ref,
        subscriber=check_subscriber(subscriber, settings, service.kinds),
        ttl=ttl,
        options=check_options(options, service.kinds),
        created_at=now,
        expires_at=now + timedelta(seconds=ttl),
    )
    check_use(wanted.subscriber, wanted.options, service.kinds, settings)
    await _check_ordered(service, wanted)
    check_dead_letter_queue(ref, wanted.options)
    wanted = await _with_trust(service, wanted, asker)
    subscription = await store(service, wanted, now, renewal(wanted) if renews else refusal)
    if subscription.id != wanted.id and not subscription.is_paused:
        subscription = await enable(service, subscription)
    if asks_to_confirm(settings):
        kind = MessageType.SUBSCRIPTION_CONFIRMATION
        await ask(service, subscription, kind, confirm_at=confirm_at, now=now)
    return subscription


async def store(
    service: Service, wanted: Subscription, now: datetime, renew: Renew
) -> Subscription:
    """Store a subscription within the project's quotas, or the new state of one of the same subscriber."""
    ref, subscriptions, quotas = wanted.queue, service.storage.subscriptions, service.quotas

    async def is_new() -> bool:
        return await subscriptions.of_subscriber(ref, wanted.subscriber, now=now) is None

    async with quotas.new_subscription(ref, is_new=is_new):
        return await subscriptions.create(
            wanted,
            renew=renew,
            now=now,
            admit=partial(quotas.new_queue, ref.project),
        )


def refusal(existing: Subscription) -> Subscription:
    """Refuses a second subscription of the same subscriber."""
    raise SubscriptionExists(existing.queue.name, existing.subscriber)


def renewal(wanted: Subscription) -> Renew:
    """The new state of a present subscription with the subscriber of the wanted one."""

    def renew(existing: Subscription) -> Subscription:
        if existing.confirmed:
            raise SubscriptionExists(existing.queue.name, existing.subscriber)
        return replace(
            existing,
            ttl=wanted.ttl,
            expires_at=wanted.expires_at,
            options=wanted.options,
        )

    return renew


async def change(
    service: Service,
    ref: QueueRef,
    subscription_id: str,
    *,
    subscriber: str | None = None,
    ttl: int | None = None,
    options: JsonObject | None = None,
    confirm_at: ConfirmAt,
    asker: Asker | None = None,
) -> None:
    """Change what is not None.

    A new ttl counts from now. A new subscriber has confirmed nothing yet, and is asked to. Deliveries that act in
    a user's name do so in the asker's from now on.

    Args:
        asker: The user of the request, if Keystone knows the user.

    Raises:
        SubscriptionNotChanged: Nothing is to be changed.
        ValidationFailed: A value is wrong, or the subscriber needs rights that the asker can't give.
        ChangedMeanwhile: Another request changed it.
    """
    settings, now = service.settings, service.clock.now()
    changes: JsonObject = {}
    if subscriber is not None:
        changes["subscriber"] = check_subscriber(subscriber, settings, service.kinds)
    if ttl is not None:
        changes["ttl"] = check_ttl(ttl, now)
        changes["expires_at"] = now + timedelta(seconds=ttl)
    if options is not None:
        if service.kinds.have_secrets(options):
            known = await get(service, ref, subscription_id)
            options = service.kinds.unmasked(options, known.options)
        changes["options"] = check_options(options, service.kinds)
    if not changes:
        raise SubscriptionNotChanged
    before = await get(service, ref, subscription_id)
    check, wanted = _anything, replace(before, **changes)
    check_use(wanted.subscriber, wanted.options, service.kinds, settings)
    await _check_ordered(service, wanted)
    check_dead_letter_queue(ref, wanted.options)
    if service.kinds.needs_trust(wanted.subscriber):
        # The rights of another user are for what that user asked for.
        if "options" not in changes:
            wanted = replace(wanted, options=without_trust(before.options))
        wanted = await _with_trust(service, wanted, asker)
        changes["options"] = wanted.options
        check = partial(_check_same, before)
    after = await update(service, ref, subscription_id, changes, now, check=check)
    # Even if this changed nothing: a request that broke off before it asked is repeated.
    if asks_to_confirm(settings) and subscriber is not None and not after.confirmed:
        kind = MessageType.SUBSCRIPTION_CONFIRMATION
        await ask(service, after, kind, confirm_at=confirm_at, now=now)


async def confirm(
    service: Service,
    ref: QueueRef,
    subscription_id: str,
    confirmed: bool,
    *,
    signed_for: Sequence[str],
    confirm_at: ConfirmAt,
) -> None:
    """Confirm it, or unsubscribe; after unsubscribing the subscriber is sent a link to come back.

    Args:
        signed_for: The paths that the signature of the request was made for; none without one.

    Raises:
        ConfirmationNotSigned: Confirmation is required, and the request does not carry the signature
            that was sent to this subscriber.
    """

    def is_signed(subscription: Subscription) -> bool:
        return sorted(signed_for) == signed_paths(confirm_at(subscription), subscription)

    def check(subscription: Subscription) -> None:
        is_due = confirmed and asks_to_confirm(service.settings)
        if is_due and not is_signed(subscription):
            raise ConfirmationNotSigned

    now = service.clock.now()
    changes = {"confirmed": confirmed}
    after = await update(service, ref, subscription_id, changes, now, check=check)
    if confirmed and is_signed(after):
        await let_in_again(service, after)
    if not confirmed and asks_to_confirm(service.settings):
        kind = MessageType.UNSUBSCRIBE_CONFIRMATION
        await ask(service, after, kind, confirm_at=confirm_at, now=now)


async def delete(service: Service, ref: QueueRef, subscription_id: str) -> None:
    """Delete it, with its missed deliveries. No error if there is no such subscription."""
    await service.storage.subscriptions.delete(ref, subscription_id)


async def _with_trust(service: Service, wanted: Subscription, asker: Asker | None) -> Subscription:
    return await with_trust(
        wanted, kinds=service.kinds, delegations=service.delegations, asker=asker
    )


async def _check_ordered(service: Service, wanted: Subscription) -> None:
    """Refuse one more ordered subscription than a queue may have."""
    if not is_ordered(wanted.options):
        return
    others = await service.storage.subscriptions.ordered(wanted.queue)
    if len({*others} - {wanted.id}) >= MOST_ORDERED:
        raise ValidationFailed(
            f"options: {ORDER_KEY}: {called(wanted.queue.name)} has {MOST_ORDERED} ordered subscriptions already, as "
            "many as it may: each post stores its messages once more for each of them"
        )


def _check_same(before: Subscription, subscription: Subscription) -> None:
    seen = (before.subscriber, before.options)
    if (subscription.subscriber, subscription.options) != seen:
        raise Conflict("Another request changed the subscription meanwhile; read it and repeat")


def _anything(_: Subscription) -> None:
    return


async def update(
    service: Service,
    ref: QueueRef,
    subscription_id: str,
    changes: JsonObject,
    now: datetime,
    *,
    check: Check = _anything,
) -> Subscription:
    """Change the subscription, if the check of its former state raises nothing, and enable it unless it is paused."""

    def changed(subscription: Subscription) -> Subscription:
        check(subscription)
        values = dict(changes)
        if values.get("subscriber", subscription.subscriber) != subscription.subscriber:
            values["confirmed"] = False
            values["failing_since"] = None
        return replace(subscription, **values)

    subscriptions = service.storage.subscriptions
    after = await subscriptions.update(ref, subscription_id, changed, now=now)
    if changes.get("confirmed", True) and not after.is_paused:
        return await enable(service, after)
    return after
