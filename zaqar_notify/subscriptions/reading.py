"""Reading subscriptions, and the deliveries that were given up."""

from __future__ import annotations

import msgspec

from zaqar_notify.delivery import (
    Undelivered,
    WrittenLater,
    read_undelivered,
    say_written_later,
)
from zaqar_notify.errors import (
    SubscriptionDoesNotExist,
)
from zaqar_notify.models import Message, QueueRef, Subscription
from zaqar_notify.rules.limits import check_limit
from zaqar_notify.service import Service
from zaqar_notify.storage.internal import undelivered_ref


class GivenUp(msgspec.Struct, frozen=True):
    """A delivery that was given up; `id` is its position in the list of them."""

    id: str
    record: Undelivered


async def get(service: Service, ref: QueueRef, subscription_id: str) -> Subscription:
    now = service.clock.now()
    subscription = await service.storage.subscriptions.get(ref, subscription_id, now=now)
    if subscription is None:
        raise SubscriptionDoesNotExist(ref.name, subscription_id)
    return subscription


async def list_subscriptions(
    service: Service, ref: QueueRef, *, marker: str | None, limit: int | None
) -> list[Subscription]:
    """Subscriptions in order of creation, after the one with id `marker`."""
    most = service.settings.max_subscriptions_per_page
    return await service.storage.subscriptions.list(
        ref,
        marker=marker,
        limit=check_limit(limit, most=most, unit="subscriptions"),
        now=service.clock.now(),
    )


async def undelivered(
    service: Service,
    ref: QueueRef,
    subscription_id: str,
    *,
    marker: str | None,
    limit: int | None,
) -> list[GivenUp]:
    """The deliveries to this subscription that were given up, oldest first."""
    limit = check_limit(limit, most=service.settings.max_messages_per_page, unit="deliveries")
    subscription = await get(service, ref, subscription_id)
    async with service.storage.at(ref) as store:
        page = await store.messages.page(
            undelivered_ref(subscription.id), marker=marker, limit=limit, now=service.clock.now()
        )
    return [given_up for message in page.messages if (given_up := _given_up(message))]


def _given_up(message: Message) -> GivenUp | None:
    try:
        return GivenUp(message.id, read_undelivered(message.body))
    except WrittenLater as later:
        say_written_later(later.version)
        return None
