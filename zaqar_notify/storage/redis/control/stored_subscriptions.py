"""Between what Redis stores of a subscription, and the subscription."""

from __future__ import annotations

from datetime import datetime

import msgspec

from zaqar_notify.errors import SubscriptionLocked
from zaqar_notify.models import DisabledReason, KeptSecret, QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.redis.control.writing import name_of
from zaqar_notify.storage.sealed_subscriptions import StoredSubscriber, opened, sealed
from zaqar_notify.storage.values import from_ms, to_ms


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """The fields of `Subscription` that its name does not have; instants in ms. `options` as `StoredSubscriber` has
    them; their text as bytes, too."""

    subscriber: str
    options: bytes
    key_id: str | None
    ttl: int
    created_at: int
    expires_at: int
    confirmed: bool
    disabled_at: int | None
    secret_generation: int
    secret_rotations: list[int]
    replay_id: str | None
    disabled_reason: str | None = None
    disabled_detail: str = ""
    failing_since: int | None = None
    kept_secrets: list[tuple[int, int, str]] = []


decode = msgspec.msgpack.Decoder(Stored).decode


def subscription_name(ref: QueueRef, subscription_id: str) -> str:
    return f"{name_of(ref)}\0{subscription_id}"


def parts_of(name: str) -> tuple[QueueRef, str]:
    """The queue and the id of a subscription with this name."""
    project, queue, subscription_id = name.split("\0")
    return QueueRef(project, queue), subscription_id


def to_stored(subscription: Subscription, keys: Keyring) -> Stored:
    subscriber = sealed(subscription, keys)
    return Stored(
        *subscriber_fields(subscriber),
        subscription.ttl,
        to_ms(subscription.created_at),
        to_ms(subscription.expires_at),
        subscription.confirmed,
        _ms_or_none(subscription.disabled_at),
        subscription.secret_generation,
        [to_ms(each) for each in subscription.secret_rotations],
        subscription.replay_id,
        subscription.disabled_reason,
        subscription.disabled_detail,
        _ms_or_none(subscription.failing_since),
        [(number, to_ms(until), given) for number, until, given in subscription.kept_secrets],
    )


def subscriber_fields(subscriber: StoredSubscriber) -> tuple[str, bytes, str | None]:
    options = subscriber.options
    as_bytes = options.encode() if isinstance(options, str) else options
    return subscriber.subscriber, as_bytes, subscriber.key_id


def subscriber_of(stored: Stored) -> StoredSubscriber:
    options = stored.options.decode() if stored.key_id is None else stored.options
    return StoredSubscriber(stored.subscriber, options, stored.key_id)


def to_subscription(name: str, stored: Stored, keys: Keyring) -> Subscription:
    """
    Raises:
        SubscriptionLocked: It can't be decrypted.
    """
    ref, subscription_id = parts_of(name)
    subscriber, options = opened(ref, subscriber_of(stored), keys)
    reason = stored.disabled_reason
    return Subscription(
        id=subscription_id,
        queue=ref,
        subscriber=subscriber,
        ttl=stored.ttl,
        options=options,
        created_at=from_ms(stored.created_at),
        expires_at=from_ms(stored.expires_at),
        confirmed=stored.confirmed,
        disabled_at=_instant_or_none(stored.disabled_at),
        secret_generation=stored.secret_generation,
        secret_rotations=tuple(map(from_ms, stored.secret_rotations)),
        replay_id=stored.replay_id,
        disabled_reason=None if reason is None else DisabledReason(reason),
        disabled_detail=stored.disabled_detail,
        failing_since=_instant_or_none(stored.failing_since),
        kept_secrets=tuple(
            KeptSecret(number, from_ms(until), given)
            for number, until, given in stored.kept_secrets
        ),
    )


def to_gone(name: str, stored: Stored, keys: Keyring) -> Subscription:
    """A subscription that is about to be removed; one that can't be decrypted is without its options, and has its
    subscriber as it is stored."""
    try:
        return to_subscription(name, stored, keys)
    except SubscriptionLocked:
        bare = msgspec.structs.replace(stored, options=b"{}", key_id=None)
        return to_subscription(name, bare, keys)


def _ms_or_none(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)


def _instant_or_none(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
