"""Models as JSON on the wire. Messages are spliced together as bytes: their bodies stay untouched."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import orjson

from zaqar_notify.clock import Clock
from zaqar_notify.models import Document, Message, Subscription
from zaqar_notify.subscriptions import GivenUp


def message(queue_href: str, message: Message, now: datetime) -> bytes:
    """`{"id", "href", "ttl", "age", "body", "checksum"?}`; no other key may appear."""
    return b'{"id":"%b","href":"%b","ttl":%d,"age":%d,"body":%b%b}' % (
        message.id.encode(),
        message_href(queue_href, message.id, message.claim_id).encode(),
        message.ttl,
        age(message.posted_at, now),
        message.body,
        _checksum(message),
    )


def messages(queue_href: str, found: Iterable[Message], now: datetime) -> bytes:
    """The array of them."""
    return b"[%b]" % b",".join([message(queue_href, one, now) for one in found])


def popped(found: Iterable[Message], now: datetime) -> bytes:
    """An array of messages that are gone, so without `href`, with what their consumers held."""
    return b"[%b]" % b",".join(
        [
            b'{"id":"%b","ttl":%d,"age":%d,"body":%b,"claim_id":null,"claim_count":%d%b}'
            % (
                one.id.encode(),
                one.ttl,
                age(one.posted_at, now),
                one.body,
                one.claim_count,
                _checksum(one),
            )
            for one in found
        ]
    )


def message_href(queue_href: str, message_id: str, claim_id: str | None = None) -> str:
    """Where the message is; a claimed one's ends in its claim's id."""
    if claim_id is None:
        return f"{queue_href}/messages/{message_id}"
    return f"{queue_href}/messages/{message_id}?claim_id={claim_id}"


def subscription(subscription: Subscription, now: datetime) -> Document:
    return {
        "id": subscription.id,
        "source": subscription.queue.name,
        "subscriber": subscription.subscriber,
        "ttl": subscription.ttl,
        "age": age(subscription.created_at, now),
        "options": subscription.options,
        "confirmed": subscription.confirmed,
        "expires_at": instant(subscription.expires_at),
    }


def instant(moment: datetime) -> str:
    """UTC to the second, with its zone: `2026-11-20T19:17:57Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def age(since: datetime, now: datetime) -> int:
    """Whole seconds; never negative, although two servers' clocks may differ."""
    return max(0, int((now - since).total_seconds()))


def _checksum(message: Message) -> bytes:
    return b"" if message.checksum is None else b',"checksum":"%b"' % message.checksum.encode()


def given_up(one: GivenUp, clock: Clock) -> Document:
    """A delivery that was given up, with what the subscriber did not get."""
    record = one.record
    return {
        "id": one.id,
        "delivery_id": record.delivery_id,
        "message_id": record.message_id,
        "verdict": record.verdict.value,
        "status": record.status,
        "detail": record.detail,
        "attempts": record.attempts,
        "given_up_at": instant(clock.on_host(record.given_up_at)),
        "payload": orjson.Fragment(bytes(record.payload)),
    }
