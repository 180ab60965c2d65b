"""The heads of webhooks: the part that all deliveries of a subscription share, and the facts of one delivery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from sinks import headers
from sinks.connections import Origin
from sinks.urls import WebUrl, read_url
from zaqar_notify import __version__
from zaqar_notify.delivery.forms import Form
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Delivery, JsonObject
from zaqar_notify.rules.webhook_signing import sign_webhook

_OWN_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"zaqar-notify/{__version__}",
}


class Unusable(ValueError):
    """The subscription can't be served; the sentence says why."""


class RequestTemplate(msgspec.Struct, frozen=True):
    """The common part of all deliveries to one subscriber; the head lacks the facts of each delivery."""

    origin: Origin
    head: bytes


def post_headers_of(options: JsonObject, *, has_token: bool) -> tuple[tuple[str, str], ...]:
    """The headers a subscription asks for, less those that it may not set or that are malformed."""
    asked = options.get("post_headers")
    if not isinstance(asked, dict) or not asked:
        return ()
    chosen = tuple(
        (name, value)
        for name, value in asked.items()
        if headers.may_set(name, value, has_token=has_token)
    )
    if sum(len(name) + len(value) for name, value in chosen) > headers.MAX_CHARACTERS:
        raise Unusable(f"post_headers have more than {headers.MAX_CHARACTERS} characters")
    return chosen


def beside(form: Form, chosen: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The content type of a form, and the headers a subscription asks for, less those that the form has itself."""
    own = {name.lower() for name, _ in form.headers}
    if form.is_fixed:
        own.add("content-type")
    beside = ((name, value) for name, value in chosen if name.lower() not in own)
    return (("Content-Type", form.content_type), *beside)


# The parts of the key are limited, so the cache holds some 20 MiB at most.
@lru_cache(maxsize=1024)
def request_template(subscriber: str, post_headers: Sequence[tuple[str, str]]) -> RequestTemplate:
    """The origin and the head for a subscriber; raises Unusable."""
    try:
        url = read_url(subscriber)
    except ValidationFailed as error:
        raise Unusable(str(error)) from error
    lines = {name.lower(): line for name, line in _header_lines(url, post_headers)}
    head = f"POST {url.target} HTTP/1.1\r\n{''.join(lines.values())}"
    return RequestTemplate(Origin(url.is_tls, url.host, url.port), head.encode())


def _header_lines(
    url: WebUrl, post_headers: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Names with their lines; a later one replaces an earlier one of its name."""
    given = [("Authorization", url.authorization)] if url.authorization else []
    for name, value in (
        ("Host", url.host_header),
        *_OWN_HEADERS.items(),
        *given,
        *post_headers,
    ):
        yield name, f"{name}: {value}\r\n"


def facts(delivery: Delivery, body: bytes) -> bytes:
    """The end of a head: the facts of this delivery, and the proof of its sender."""
    timestamp = int(delivery.sent_at.timestamp())
    signature = ""
    if delivery.secrets:
        signed = sign_webhook(delivery.secrets, delivery.id, timestamp, body)
        signature = f"webhook-signature: {signed}\r\n"
    attributes = ""
    if delivery.message.attributes is not None and not delivery.batch:
        attributes = f"Zaqar-Attributes: {delivery.message.attributes.decode('ascii')}\r\n"
    ids = ",".join(delivery.batch) or delivery.message_id
    # Should the receiver be a queue again, ours or another service's, its posts count on the hops.
    return (
        f"Content-Length: {len(body)}\r\n"
        f"webhook-id: {delivery.id}\r\n"
        f"webhook-timestamp: {timestamp}\r\n"
        f"{signature}"
        f"{attributes}"
        f"Zaqar-Message-Id: {ids}\r\n"
        f"Zaqar-Subscription-Id: {delivery.subscription.id}\r\n"
        f"Zaqar-Queue: {delivery.subscription.queue.public_name}\r\n"
        f"Zaqar-Attempt: {delivery.attempt}\r\n"
        f"Zaqar-Hops: {delivery.hops + 1}\r\n"
        "\r\n"
    ).encode()
