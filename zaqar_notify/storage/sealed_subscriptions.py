"""Subscriptions as they are stored: subscriber and options are encrypted, given a key.

Webhook URLs and `post_headers` carry tokens and passwords. A subscriber is looked up by a digest, which
can't be compared with guesses without the keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zaqar_notify.errors import CannotDecrypt, SubscriptionLocked
from zaqar_notify.models import JsonObject, QueueRef, Subscription
from zaqar_notify.rules.encryption import Keyring, Kind
from zaqar_notify.storage.sealing import say_locked
from zaqar_notify.storage.values import from_json, to_json


class StoredSubscriber(msgspec.Struct, frozen=True):
    """The fields of a stored subscription that are, or may be, encrypted: `options` is JSON text, or an
    envelope with the subscriber and the options."""

    subscriber: str
    options: str | bytes
    key_id: str | None


def sealed(subscription: Subscription, keys: Keyring) -> StoredSubscriber:
    ref, subscriber, options = subscription.queue, subscription.subscriber, subscription.options
    if keys:
        return _stored(ref, subscriber, options, keys)
    return StoredSubscriber(subscriber, to_json(options), None)


def _stored(ref: QueueRef, subscriber: str, options: JsonObject, keys: Keyring) -> StoredSubscriber:
    content = to_json({"subscriber": subscriber, "options": options}).encode()
    name = names_of(ref, subscriber, keys)[0]
    return StoredSubscriber(name, keys.seal(Kind.SUBSCRIPTION, ref.project, content), keys.ids[0])


def opened(ref: QueueRef, stored: StoredSubscriber, keys: Keyring) -> tuple[str, JsonObject]:
    """The subscriber and the options of a stored subscription of the queue.

    Raises:
        SubscriptionLocked: They can't be decrypted, or are not what was stored there.
    """
    if stored.key_id is None and isinstance(stored.options, str):
        return stored.subscriber, from_json(stored.options)
    try:
        return _decrypted(ref, stored, keys)
    except CannotDecrypt as error:
        say_locked(error)
        raise SubscriptionLocked(error) from error


def _decrypted(ref: QueueRef, stored: StoredSubscriber, keys: Keyring) -> tuple[str, JsonObject]:
    options = stored.options
    envelope = options.encode() if isinstance(options, str) else options
    content = from_json(keys.open(Kind.SUBSCRIPTION, ref.project, envelope).decode())
    *digests, _clear = names_of(ref, content["subscriber"], keys)
    if stored.subscriber not in digests:
        # Of another queue, or it would be found as the subscription of another subscriber.
        raise CannotDecrypt("", is_known=True)
    return content["subscriber"], content["options"]


def refuse_without(key_id: str | None) -> None:
    """Refuse a new subscription where others are under a key that is not here: one of them may be of the same
    subscriber, and its digest under that key can't be made.

    Raises:
        SubscriptionLocked: A key is given.
    """
    if key_id is not None:
        raise SubscriptionLocked(CannotDecrypt(key_id, is_known=False))


def resealed(ref: QueueRef, stored: StoredSubscriber, keys: Keyring) -> StoredSubscriber:
    """An encrypted subscription of the queue under the first key.

    Raises:
        SubscriptionLocked: It can't be decrypted.
    """
    subscriber, options = opened(ref, stored, keys)
    return _stored(ref, subscriber, options, keys)


def names_of(ref: QueueRef, subscriber: str, keys: Keyring) -> Sequence[str]:
    """The texts under which a subscriber may be stored, the present one first."""
    digests = keys.digests(ref.project, f"{ref.name}\0{subscriber}".encode())
    return [*(f"digest:{digest.hex()}" for digest in digests), subscriber]
