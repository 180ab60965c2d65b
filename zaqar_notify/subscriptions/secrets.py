"""The secrets that sign a subscription's webhooks."""

from __future__ import annotations

import msgspec

from zaqar_notify.errors import (
    WebhooksNotSigned,
)
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.signing import rotate, webhook_secrets
from zaqar_notify.service import Service
from zaqar_notify.subscriptions.reading import get


class SigningSecret(msgspec.Struct, frozen=True):
    """The secret that signs a subscription's webhooks; former ones sign too, until their overlap ends."""

    current: str
    former: list[str]


async def secret(service: Service, ref: QueueRef, subscription_id: str) -> SigningSecret:
    """The secret that signs the subscription's webhooks.

    Raises:
        WebhooksNotSigned: This service has no master key.
    """
    return _secret(service, await get(service, ref, subscription_id))


async def rotate_secret(service: Service, ref: QueueRef, subscription_id: str) -> SigningSecret:
    """Make a new secret; for a while the former ones sign beside it, each until its own overlap ends.

    Raises:
        WebhooksNotSigned: This service has no master key.
        ValidationFailed: As many as may sign at once do already.
    """
    if not service.settings.webhook_secret.get_secret_value():
        raise WebhooksNotSigned
    now = service.clock.now()
    overlap_seconds = service.settings.webhook_secret_overlap_seconds

    def rotated(subscription: Subscription) -> Subscription:
        return rotate(subscription, now=now, overlap_seconds=overlap_seconds)

    subscriptions = service.storage.subscriptions
    return _secret(service, await subscriptions.update(ref, subscription_id, rotated, now=now))


def _secret(service: Service, subscription: Subscription) -> SigningSecret:
    settings = service.settings
    secrets = webhook_secrets(
        settings.webhook_secret.get_secret_value(),
        subscription,
        now=service.clock.now(),
        overlap_seconds=settings.webhook_secret_overlap_seconds,
    )
    if not secrets:
        raise WebhooksNotSigned
    return SigningSecret(secrets[0], secrets[1:])
