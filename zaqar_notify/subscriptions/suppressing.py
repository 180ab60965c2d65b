"""Addresses whose owners unsubscribed: they get nothing more from the project, by any of its subscriptions.

The store keeps a digest of an address, not the address.
"""

from __future__ import annotations

import hashlib
import logging

from zaqar_notify.delivery.subscribers import shown_subscriber
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Subscription
from zaqar_notify.rules.limits import check_limit
from zaqar_notify.service import Service
from zaqar_notify.storage.suppressions import Suppression

logger = logging.getLogger(__name__)

MAX_PER_PAGE = 100


def suppression_id(project: str, addressee: str) -> str:
    digest = hashlib.sha256(f"{project}\0{addressee}".encode(errors="replace"))
    return digest.hexdigest()[:32]


async def suppress(service: Service, subscription: Subscription, addressee: str) -> None:
    """Let the addressee get nothing more from the project, from now on."""
    suppression = Suppression(
        id=suppression_id(subscription.queue.project, addressee),
        subscriber=shown_subscriber(subscription.subscriber),
        queue=subscription.queue.name,
        subscription_id=subscription.id,
        suppressed_at=service.clock.now(),
    )
    await service.storage.control.suppressions.add(subscription.queue.project, suppression)
    _log("An addressee has unsubscribed", subscription, action="addressee_suppressed")


async def let_in_again(service: Service, subscription: Subscription) -> None:
    """The subscriber has confirmed by itself, so that it gets what it subscribes to. No error if it always did."""
    addressee = addressee_of(service, subscription.subscriber)
    if addressee is None or not await suppression_of(
        service, subscription.queue.project, addressee
    ):
        return
    await remove_suppression(
        service,
        subscription.queue.project,
        suppression_id(subscription.queue.project, addressee),
    )
    sentence = "An addressee that had unsubscribed has confirmed"
    _log(sentence, subscription, action="addressee_let_in")


async def suppression_of(service: Service, project: str, addressee: str) -> Suppression | None:
    """The suppression of an addressee, in the spelling of its kind."""
    return await service.storage.control.suppressions.get(
        project, suppression_id(project, addressee)
    )


async def list_suppressions(
    service: Service,
    project: str,
    *,
    subscriber: str | None,
    marker: str | None,
    limit: int | None,
) -> list[Suppression]:
    """The project's suppressions in order of id, after the one with id `marker`; of one subscriber, if it is named.

    Raises:
        ValidationFailed: The subscriber is no address of a person.
    """
    limit = check_limit(limit, most=MAX_PER_PAGE, unit="suppressions")
    if subscriber is None:
        return await service.storage.control.suppressions.list(project, marker=marker, limit=limit)
    addressee = addressee_of(service, subscriber)
    if addressee is None:
        raise ValidationFailed(
            "subscriber must be the URI of a person's address, such as mailto:user@example.org"
        )
    found = await suppression_of(service, project, addressee)
    if found is None or (marker is not None and found.id <= marker):
        return []
    return [found]


async def remove_suppression(service: Service, project: str, suppression_id: str) -> None:
    """Remove a suppression. No error if absent."""
    await service.storage.control.suppressions.remove(project, suppression_id)


def addressee_of(service: Service, subscriber: str) -> str | None:
    """The person behind a subscriber; None: there is none."""
    kind = service.kinds.of(subscriber)
    return None if kind is None else kind.addressee(subscriber)


def _log(sentence: str, subscription: Subscription, *, action: str) -> None:
    logger.info(
        sentence,
        extra={
            "action": action,
            "subscriber": shown_subscriber(subscription.subscriber),
            "subscription_id": subscription.id,
            "project": subscription.queue.project,
            "queue": subscription.queue.name,
        },
    )
