"""The shapes of answers, and the spelling of paths and bodies."""

from __future__ import annotations

import base64
import json
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
import requests

from zaqar_notify.client.errors import ServiceUnreachable
from zaqar_notify.client.models import (
    Attribute,
    Message,
    QueueStats,
    QueueSummary,
    RawJson,
    Replay,
    Subscription,
    Suppression,
    Undelivered,
)

T = TypeVar("T")


class Link(msgspec.Struct):
    rel: str
    href: str


class Listing(msgspec.Struct):
    links: list[Link] = []


ListingT = TypeVar("ListingT", bound=Listing)


class MessageList(Listing):
    messages: list[Message] = []


class QueueList(Listing):
    queues: list[QueueSummary] = []


class SubscriptionList(Listing):
    subscriptions: list[Subscription] = []


class UndeliveredList(Listing):
    undelivered: list[Undelivered] = []


class SuppressionList(Listing):
    suppressions: list[Suppression] = []


class ClaimBody(msgspec.Struct):
    ttl: int
    messages: list[Message] = []


class Resources(msgspec.Struct):
    resources: list[str]


class Stats(msgspec.Struct):
    messages: QueueStats


class Subscribed(msgspec.Struct):
    subscription_id: str


class ReplayList(msgspec.Struct):
    replays: list[Replay]


class Secret(msgspec.Struct):
    secret: str


class PublicKey(msgspec.Struct):
    public_key: str


def read(answer: requests.Response, shape: type[T]) -> T:
    """The answer's body.

    Raises:
        ServiceUnreachable: It has another shape: something else listens at the address.
    """
    try:
        return msgspec.json.decode(answer.content, type=shape)
    except msgspec.DecodeError as error:
        where = answer.url.partition("?")[0]
        raise ServiceUnreachable(
            f"The server at {where} does not speak this API: {error}"
        ) from error


def raw_json(body: Any) -> msgspec.Raw:
    text = body.text if isinstance(body, RawJson) else json.dumps(body, allow_nan=False)
    return msgspec.Raw(text.encode())


def wire_attribute(value: Any) -> Any:
    """An attribute as a post has it: bytes have no JSON of their own."""
    if isinstance(value, bytes):
        return Attribute("Binary", base64.b64encode(value).decode())
    return value


def next_marker(listing: Listing) -> str | None:
    """Where the next page begins; None when this one is empty."""
    for link in listing.links:
        if link.rel == "next":
            return parse_qs(urlsplit(link.href).query).get("marker", [None])[0]
    return None


def queue_path(queue: str) -> str:
    return f"/v2/queues/{quote(queue, '')}"


def message_path(queue: str, message_id: str) -> str:
    return f"{queue_path(queue)}/messages/{quote(message_id, '')}"


def subscription_path(queue: str, subscription_id: str) -> str:
    return f"{queue_path(queue)}/subscriptions/{quote(subscription_id, '')}"


def metadata_pointer(key: str) -> str:
    return "/metadata/" + key.replace("~", "~0").replace("/", "~1")
