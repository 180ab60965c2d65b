"""Requests to confirm a subscription, and the links in them."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta

import msgspec

from zaqar_notify.clock import new_id
from zaqar_notify.delivery.links import Purpose, link_to
from zaqar_notify.delivery.outgoing import Outgoing
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    PLAIN,
    InternalMessage,
    OwedDelivery,
    OwedMessage,
    internal_message,
)
from zaqar_notify.models import MessageType, NewMessage, Subscription
from zaqar_notify.rules.signing import sign_url
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import outbox_ref

_SCHEME = re.compile("^http")
_EXPIRES_FORMAT = "%Y-%m-%dT%H:%M:%S"


class _Link(msgspec.Struct):
    expires: str = msgspec.field(name="URL-Expires")


def confirmation_job(
    subscription: Subscription, kind: MessageType, *, path: str, settings: Settings, now: datetime
) -> InternalMessage:
    """The delivery of a request to confirm, or of a farewell with the link to come back.

    Needs `signed_url_secrets`. The link of a request lives as long as the subscription, that of a
    farewell for the default life of a subscription.

    Args:
        path: Where the subscription is confirmed, below the public URL.
    """
    body = _confirmation(subscription, kind, path=path, settings=settings, now=now)
    message = NewMessage(body=body, ttl=subscription.ttl)
    owed = OwedMessage(new_id(), message.ttl, msgspec.Raw(message.body))
    ref = subscription.queue
    delivery = OwedDelivery(PLAIN, ref.project, ref.name, subscription.id, owed, kind=kind)
    # Workers are rung for the outbox alone.
    return internal_message(outbox_ref(partition_of(ref, settings.delivery_partitions)), delivery)


def signed_paths(path: str, subscription: Subscription) -> list[str]:
    """The signed parts of a link to confirm: its path, and the subscriber. Once the subscription has
    another subscriber, the link confirms nothing."""
    digest = hashlib.sha256(subscription.subscriber.encode(errors="replace")).hexdigest()
    return [path, f"{path}/{digest[:32]}"]


def link_expires_at(outgoing: Outgoing) -> datetime | None:
    """The instant at which a confirmation's link expires; None for other deliveries."""
    if outgoing.kind is MessageType.NOTIFICATION:
        return None
    link = msgspec.json.decode(outgoing.payload, type=_Link)
    return datetime.strptime(link.expires, _EXPIRES_FORMAT).replace(tzinfo=UTC)


def _confirmation(
    subscription: Subscription, kind: MessageType, *, path: str, settings: Settings, now: datetime
) -> bytes:
    """Zaqar's payload: its receivers copy the keys into the headers of the confirming request. `SubscribeURL` is
    ours: a link that needs no headers."""
    queue = subscription.queue
    word = "topic" if queue.is_topic else "queue"
    paths = signed_paths(path, subscription)
    if kind is MessageType.UNSUBSCRIBE_CONFIRMATION:
        expires_at = now + timedelta(seconds=settings.default_subscription_ttl)
        sentence = (
            f"You have unsubscribed successfully to the {word}: {queue.public_name}, "
            "you can resubscribe it by using confirmed=True."
        )
    else:
        expires_at = subscription.expires_at
        sentence = f"You have chosen to subscribe to the {word}: {queue.public_name}"
    signature = sign_url(
        settings.signed_url_secrets[0].get_secret_value(),
        paths=paths,
        methods=["PUT"],
        project=queue.project,
        expires=expires_at,
    )
    links = {
        "WSGISubscribeURL": settings.public_url,
        "WebSocketSubscribeURL": _websocket_url(settings),
    }
    subscribe_url = link_to(Purpose.CONFIRM, subscription, settings, expires_at=expires_at)
    payload = {
        **{name: url.rstrip("/") + path for name, url in links.items() if url},
        "Message_Type": kind.value,
        "Message": sentence,
        "URL-Signature": signature,
        "URL-Methods": "PUT",
        "URL-Paths": ",".join(paths),
        "X-Project-ID": queue.project,
        "URL-Expires": expires_at.strftime(_EXPIRES_FORMAT),
        "SubscribeBody": {"confirmed": True},
        "UnsubscribeBody": {"confirmed": False},
        "queue_name": queue.public_name,
        **({"SubscribeURL": subscribe_url} if subscribe_url else {}),
    }
    return json.dumps(payload).encode()


def _websocket_url(settings: Settings) -> str:
    """The address of the WebSocket API as clients see it; empty: it is not known, or not served."""
    if not settings.websocket:
        return ""
    return settings.websocket_url or _SCHEME.sub("ws", settings.public_url)
