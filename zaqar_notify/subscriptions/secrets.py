"""The secrets and keys that sign a subscription's webhooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.errors import ValidationFailed, WebhooksNotSigned
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.webhook_signing import (
    MAX_OVERLAP_SECONDS,
    check_secret,
    public_keys,
    rotate,
    sealed,
    shared_secrets,
)
from zaqar_notify.service import Service
from zaqar_notify.subscriptions.reading import get


class SigningSecret(msgspec.Struct, frozen=True):
    """The secret that signs a subscription's webhooks; former ones sign too, until their overlap ends."""

    current: str
    former: list[str]


async def secret(service: Service, ref: QueueRef, subscription_id: str) -> SigningSecret:
    """The secret that signs the subscription's webhooks, if they are signed with HMAC.

    Raises:
        WebhooksNotSigned: This service has no master key.
    """
    subscription = await get(service, ref, subscription_id)
    return _derived(service, shared_secrets, subscription)


async def public_key(service: Service, ref: QueueRef, subscription_id: str) -> SigningSecret:
    """The public key that verifies the subscription's webhooks, if they are signed with ed25519.

    Raises:
        WebhooksNotSigned: This service has no master key.
    """
    subscription = await get(service, ref, subscription_id)
    return _derived(service, public_keys, subscription)


async def rotate_secret(
    service: Service,
    ref: QueueRef,
    subscription_id: str,
    *,
    overlap_seconds: int | None = None,
    given: str | None = None,
) -> SigningSecret:
    """Make a new secret and a new key; for a while the former ones sign beside them, each until its own overlap ends.

    Args:
        overlap_seconds: Of this rotation; None takes the service's.
        given: The new secret, as `whsec_…`; None: one is derived.

    Raises:
        WebhooksNotSigned: This service has no master key.
        ValidationFailed: The overlap is out of range, the secret has another form, or as many as may sign at once do already.
    """
    settings = service.settings
    master = settings.webhook_secret.get_secret_value()
    if not master:
        raise WebhooksNotSigned
    kept = "" if given is None else sealed(master, ref.project, check_secret(given))
    usual = settings.webhook_secret_overlap_seconds
    overlap = usual if overlap_seconds is None else _checked(overlap_seconds)
    now = service.clock.now()

    def rotated(subscription: Subscription) -> Subscription:
        return rotate(
            subscription,
            now=now,
            overlap_seconds=overlap,
            of_earlier_seconds=usual,
            given=kept,
        )

    subscriptions = service.storage.subscriptions
    after = await subscriptions.update(ref, subscription_id, rotated, now=now)
    return _derived(service, shared_secrets, after)


def _checked(overlap_seconds: object) -> int:
    if (
        isinstance(overlap_seconds, bool)
        or not isinstance(overlap_seconds, int)
        or not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS
    ):
        raise ValidationFailed(
            f"overlap_seconds must be an integer from 0 to {MAX_OVERLAP_SECONDS} seconds"
        )
    return overlap_seconds


def _derived(
    service: Service, derive: Callable[..., Sequence[str]], subscription: Subscription
) -> SigningSecret:
    now: datetime = service.clock.now()
    settings = service.settings
    derived = derive(
        settings.webhook_secret.get_secret_value(),
        subscription,
        now=now,
        overlap_seconds=settings.webhook_secret_overlap_seconds,
    )
    if not derived:
        raise WebhooksNotSigned
    return SigningSecret(derived[0], list(derived[1:]))
