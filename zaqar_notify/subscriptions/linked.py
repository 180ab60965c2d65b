"""Links with a token: an addressee confirms a subscription, or unsubscribes, without an account here."""

from __future__ import annotations

import logging
from contextlib import suppress

from zaqar_notify.delivery.links import Purpose, make_token, read_token
from zaqar_notify.errors import LinkNotValid, SubscriptionDoesNotExist
from zaqar_notify.models import DisabledReason, Subscription
from zaqar_notify.rules.states import disabled
from zaqar_notify.service import Service
from zaqar_notify.subscriptions import suppressing
from zaqar_notify.subscriptions.changing import update

logger = logging.getLogger(__name__)


async def linked(service: Service, token: str, purpose: Purpose) -> Subscription:
    """The subscription that a link is about; nothing is changed.

    Raises:
        LinkNotValid: The link was changed or has expired, or the subscription has ended or has another subscriber.
    """
    link = read_token(token, purpose, service.settings, now=service.clock.host_now())
    subscription = await service.storage.subscriptions.get(
        link.ref, link.subscription_id, now=service.clock.now()
    )
    if subscription is None:
        raise LinkNotValid
    link.check(subscription)
    return subscription


async def confirm_by_link(service: Service, token: str) -> Subscription:
    """Confirm the subscription; no error if it is confirmed already. Raises as `linked`."""
    subscription = await linked(service, token, Purpose.CONFIRM)
    try:
        after = await _set_confirmed(service, subscription, True)
    except SubscriptionDoesNotExist as error:
        raise LinkNotValid from error
    await suppressing.let_in_again(service, after)
    return after


async def unsubscribe_by_link(service: Service, token: str) -> Subscription:
    """Let the addressee get nothing more from the project, and end the confirmation. A subscriber that is no person is
    disabled, as if it had answered 410. Raises as `linked`."""
    subscription = await linked(service, token, Purpose.UNSUBSCRIBE)
    addressee = suppressing.addressee_of(service, subscription.subscriber)
    if addressee is None:
        return await _disable(service, subscription)
    # First, because it holds whether or not subscribers must confirm.
    await suppressing.suppress(service, subscription, addressee)
    with suppress(SubscriptionDoesNotExist, LinkNotValid):
        return await _set_confirmed(service, subscription, False)
    return subscription


def token_to_come_back(service: Service, subscription: Subscription) -> str:
    """The token of a link by which one that has unsubscribed confirms again."""
    expires_at = service.clock.on_host(subscription.expires_at)
    return make_token(Purpose.CONFIRM, subscription, service.settings, expires_at=expires_at)


async def _disable(service: Service, subscription: Subscription) -> Subscription:
    """Raises LinkNotValid: It has another subscriber by now, or has ended."""
    now = service.clock.now()

    def gone(current: Subscription) -> Subscription:
        if current.subscriber != subscription.subscriber:
            raise LinkNotValid
        if current.disabled_at is not None:
            return current
        return disabled(current, DisabledReason.GONE, "unsubscribed by its link", now)

    subscriptions = service.storage.subscriptions
    try:
        after = await subscriptions.update(subscription.queue, subscription.id, gone, now=now)
    except SubscriptionDoesNotExist as error:
        raise LinkNotValid from error
    logger.warning(
        "A receiver unsubscribed by its link; the subscription is disabled, and later messages are held",
        extra={
            "action": "subscription_disabled",
            "subscription_id": after.id,
            "project": after.queue.project,
            "queue": after.queue.name,
            "detail": after.disabled_detail,
        },
    )
    return after


async def _set_confirmed(
    service: Service, subscription: Subscription, confirmed: bool
) -> Subscription:
    """Raises LinkNotValid: It has another subscriber by now."""

    def check(current: Subscription) -> None:
        if current.subscriber != subscription.subscriber:
            raise LinkNotValid

    changes = {"confirmed": confirmed}
    now = service.clock.now()
    return await update(service, subscription.queue, subscription.id, changes, now, check=check)
