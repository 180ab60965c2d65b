"""Between documents and subscriptions."""

from __future__ import annotations

from zaqar_notify.errors import SubscriptionLocked
from zaqar_notify.models import DisabledReason, KeptSecret, QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.mongodb.connection import Document
from zaqar_notify.storage.mongodb.documents import queue_key, to_ref
from zaqar_notify.storage.sealed_subscriptions import StoredSubscriber, opened, sealed


def subscription_key(ref: QueueRef, subscription_id: str) -> str:
    return f"{queue_key(ref)}\0{subscription_id}"


def from_subscription(subscription: Subscription, keys: Keyring) -> Document:
    stored = sealed(subscription, keys)
    return {
        "_id": subscription_key(subscription.queue, subscription.id),
        "queue": queue_key(subscription.queue),
        "subscriber": stored.subscriber,
        "ttl": subscription.ttl,
        "options": stored.options,
        "created_at": subscription.created_at,
        "expires_at": subscription.expires_at,
        "confirmed": subscription.confirmed,
        "disabled_at": subscription.disabled_at,
        "secret_generation": subscription.secret_generation,
        "secret_rotations": list(subscription.secret_rotations),
        "replay_id": subscription.replay_id,
        "disabled_reason": subscription.disabled_reason,
        "disabled_detail": subscription.disabled_detail,
        "failing_since": subscription.failing_since,
        "kept_secrets": [kept._asdict() for kept in subscription.kept_secrets],
        **({} if stored.key_id is None else {"key_id": stored.key_id}),
    }


def to_subscription(ref: QueueRef, stored: Document, keys: Keyring) -> Subscription:
    """The subscription of a document.

    Raises:
        SubscriptionLocked: It can't be decrypted.
    """
    subscriber, options = opened(ref, stored_subscriber(stored), keys)
    reason = stored.get("disabled_reason")
    return Subscription(
        id=stored["_id"].removeprefix(f"{queue_key(ref)}\0"),
        queue=ref,
        subscriber=subscriber,
        ttl=stored["ttl"],
        options=options,
        created_at=stored["created_at"],
        expires_at=stored["expires_at"],
        confirmed=stored["confirmed"],
        disabled_at=stored["disabled_at"],
        secret_generation=stored["secret_generation"],
        secret_rotations=tuple(stored["secret_rotations"]),
        replay_id=stored.get("replay_id"),
        disabled_reason=None if reason is None else DisabledReason(reason),
        disabled_detail=stored.get("disabled_detail", ""),
        failing_since=stored.get("failing_since"),
        kept_secrets=tuple(KeptSecret(**kept) for kept in stored.get("kept_secrets", ())),
    )


def stored_subscriber(stored: Document) -> StoredSubscriber:
    return StoredSubscriber(stored["subscriber"], stored["options"], stored.get("key_id"))


def to_gone(stored: Document, keys: Keyring) -> Subscription:
    """The subscription of a document that is about to be removed; one that can't be decrypted is without its
    options, and has its subscriber as it is stored."""
    ref = to_ref(stored["queue"])
    try:
        return to_subscription(ref, stored, keys)
    except SubscriptionLocked:
        return to_subscription(ref, {**stored, "options": "{}", "key_id": None}, keys)
