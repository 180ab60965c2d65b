"""Deliveries in the envelope of Amazon SNS, as receivers that were written for SNS read and verify it.

Source: Amazon SNS Developer Guide, "HTTP/HTTPS notification JSON format" and "Verifying the signatures of Amazon SNS
messages".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from zaqar_notify.models import Delivery, JsonObject, MessageType, QueueRef
from zaqar_notify.rules.attributes import Attribute, read_attributes
from zaqar_notify.rules.certificates import SigningKey
from zaqar_notify.rules.instants import shown_instant

CONTENT_TYPE = "text/plain; charset=UTF-8"
CERTIFICATES = "/v2/certificates"
"""The path of the certificates, below the public URL."""

_OF_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_OF_CONFIRMATION = (
    "Message",
    "MessageId",
    "SubscribeURL",
    "Timestamp",
    "Token",
    "TopicArn",
    "Type",
)


class Envelope(msgspec.Struct, frozen=True):
    """The text of an envelope, and the headers that SNS has beside it."""

    text: bytes
    headers: tuple[tuple[str, str], ...]


def topic_arn(queue: QueueRef) -> str:
    """The name of a queue or topic as SNS writes names; it has the project in the place of the account."""
    return f"arn:zaqar:sns::{quote(queue.project, safe='')}:{quote(queue.public_name, safe='')}"


def envelope(
    delivery: Delivery,
    *,
    public_url: str,
    unsubscribe_url: str,
    key: SigningKey | None,
    version: str,
) -> Envelope:
    """The delivery as SNS would send it.

    Args:
        unsubscribe_url: Ends the subscription; empty: there is none, and the envelope does not name it.
        key: None leaves the fields of the signature out.
        version: Of the signature, "1" or "2".
    """
    arn = topic_arn(delivery.subscription.queue)
    is_notification = delivery.kind is MessageType.NOTIFICATION
    fields: JsonObject = {
        "Type": delivery.kind.value,
        "MessageId": delivery.message_id,
        **({} if is_notification else _links(delivery)),
        "TopicArn": arn,
        "Message": _message(delivery) if is_notification else _request(delivery.kind, arn),
        "Timestamp": shown_instant(delivery.posted_at or delivery.sent_at),
    }
    if key is not None:
        signed = to_sign(fields)
        fields["SignatureVersion"] = version
        fields["Signature"] = key.sign(signed, version=version)
        fields["SigningCertURL"] = f"{public_url.rstrip('/')}{CERTIFICATES}/{key.name}"
    if is_notification:
        if unsubscribe_url:
            fields["UnsubscribeURL"] = unsubscribe_url
        attributes = read_attributes(delivery.message.attributes)
        if attributes:
            fields["MessageAttributes"] = dict(_attributes(attributes))
    text = json.dumps(fields, ensure_ascii=False, indent=2, separators=(",", " : "))
    return Envelope(text.encode(), tuple(_headers(delivery, arn)))


def to_sign(fields: Mapping[str, str]) -> bytes:
    """The text that a signature covers: names and values of some fields, each with a line feed."""
    is_notification = fields["Type"] == MessageType.NOTIFICATION
    names = _OF_NOTIFICATION if is_notification else _OF_CONFIRMATION
    return "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields).encode()


def _message(delivery: Delivery) -> str:
    """The message's body: the content of a string, else the JSON text."""
    body = delivery.message.body
    return str(json.loads(body)) if body.startswith(b'"') else body.decode()


def _request(kind: MessageType, arn: str) -> str:
    if kind is MessageType.SUBSCRIPTION_CONFIRMATION:
        return (
            f"You have chosen to subscribe to the topic {arn}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        )
    return (
        f"You have chosen to deactivate the subscription to the topic {arn}.\n"
        "To cancel this operation and restore the subscription, visit the SubscribeURL included in this message."
    )


def subscribe_url(delivery: Delivery) -> str:
    """The link of a request to confirm; empty: it has none."""
    payload: JsonObject = msgspec.json.decode(delivery.payload)
    return str(payload.get("SubscribeURL", ""))


def _links(delivery: Delivery) -> JsonObject:
    """The link of a request to confirm, and its token."""
    link = subscribe_url(delivery)
    tokens = parse_qs(urlsplit(link).query).get("token", [""])
    return {"Token": tokens[0], "SubscribeURL": link}


def _attributes(attributes: Mapping[str, Attribute]) -> Iterator[tuple[str, JsonObject]]:
    for name, attribute in attributes.items():
        value = attribute.value
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield name, {"Type": attribute.type, "Value": text}


def _headers(delivery: Delivery, arn: str) -> Iterator[tuple[str, str]]:
    yield "x-amz-sns-message-type", delivery.kind.value
    yield "x-amz-sns-message-id", delivery.message_id
    yield "x-amz-sns-topic-arn", arn
    if delivery.kind is not MessageType.SUBSCRIPTION_CONFIRMATION:
        yield "x-amz-sns-subscription-arn", f"{arn}:{delivery.subscription.id}"
