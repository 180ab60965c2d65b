"""The state of a subscription: normal, paused by a client, or disabled because its receiver is gone or only fails.

`disabled_at` is the one mark of "deliveries are held"; the reason says what ends it. Pure functions: they are given
to the atomic update of a subscription.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from zaqar_notify.models import DisabledReason, Subscription

MAX_DETAIL_CHARACTERS = 256


def paused(subscription: Subscription, detail: str, now: datetime) -> Subscription:
    """Paused since `now`; a subscription that is paused already keeps its instant and detail."""
    if subscription.is_paused:
        return subscription
    return disabled(subscription, DisabledReason.PAUSED, detail, now)


def disabled(
    subscription: Subscription, reason: DisabledReason, detail: str, now: datetime
) -> Subscription:
    """Its deliveries are held from now on. It names no replay any more: the one under way ends."""
    return replace(
        subscription,
        disabled_at=now,
        disabled_reason=reason,
        disabled_detail=detail[:MAX_DETAIL_CHARACTERS],
        replay_id=None,
    )


def enabled(subscription: Subscription, *, replay_id: str) -> Subscription:
    """Deliveries go on. New ones stand behind those that were held, while this replay fetches them.

    One that is enabled already stays as it is.
    """
    if subscription.disabled_at is None:
        return subscription
    return replace(_normal(subscription), replay_id=replay_id)


def unless_paused(subscription: Subscription) -> Subscription:
    """Enabled, unless a client paused it."""
    return subscription if subscription.is_paused else _normal(subscription)


def is_failing_for(subscription: Subscription, seconds: int, now: datetime) -> bool:
    """Whether attempts have only failed for so long; never with 0 seconds."""
    since = subscription.failing_since
    return bool(seconds) and since is not None and now >= since + timedelta(seconds=seconds)


def _normal(subscription: Subscription) -> Subscription:
    return replace(
        subscription,
        disabled_at=None,
        disabled_reason=None,
        disabled_detail="",
        failing_since=None,
    )
