"""The form of a delivery: the body and the headers that its receiver gets.

All sinks ask `form_of`. The result depends on nothing but its arguments, and a delivery is not altered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import msgspec
import orjson

from zaqar_notify.delivery import sns
from zaqar_notify.delivery.links import Purpose, link_to
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Delivery, JsonObject, MessageType
from zaqar_notify.rules.attributes import read_attributes
from zaqar_notify.rules.certificates import SigningKey
from zaqar_notify.rules.formats import FORMAT_KEY, POST_DATA, Format, sns_version
from zaqar_notify.rules.instants import shown_instant
from zaqar_notify.rules.placeholders import TEMPLATE_KEY, UNSUBSCRIBE_URL
from zaqar_notify.rules.templates import TooLarge, Values, template_of
from zaqar_notify.settings import Settings

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
CLOUDEVENT = "application/cloudevents+json; charset=utf-8"

FORM_GROWTH = 4
"""The largest body made by a template, as a multiple of the largest body of a post: a template that repeats a
placeholder could make gigabytes."""

MESSAGE_PLACEHOLDER = b'"$zaqar_message$"'
"""The place of the payload in `post_data`; the quotes belong to it."""

_encode = msgspec.json.Encoder().encode

_EVENT_TYPE = "org.openstack.zaqar"
_OF_EVENTS = re.compile(
    "id|source|specversion|type|datacontenttype|dataschema|subject|time|data|zaqarproject|zaqarqueue"
)
"""Names that no attribute of a message may take."""
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
# All printable characters of ASCII but those that CloudEvents encodes: blank, quote and percent sign.
_AS_IN_HEADERS = "".join(chr(code) for code in range(33, 127) if chr(code) not in '"%')


class CannotForm(ValueError):
    """The delivery can't be put into the form that its subscription asks for; the sentence says why."""


class Form(msgspec.Struct, frozen=True):
    """A delivery as its receiver gets it.

    `is_fixed`: the content type belongs to the format, so that no header of the subscription may replace it.
    """

    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    is_fixed: bool = False


def has_own_form(options: JsonObject) -> bool:
    """Whether a subscription asks for another form than Zaqar's."""
    return FORMAT_KEY in options or TEMPLATE_KEY in options


def form_of(
    delivery: Delivery,
    settings: Settings,
    *,
    key: SigningKey | None = None,
    quote: Callable[[str], str] | None = None,
) -> Form:
    """The delivery in the form that its subscription asks for.

    Templates and `raw` are for messages. Requests to confirm stay Zaqar's, because receivers look for its keys.

    Args:
        key: Signs SNS envelopes; None: these are not signed.
        quote: Makes a value harmless inside of a template that is a text, as `html.escape` does.

    Raises:
        CannotForm: A template makes too large a body; or a stored option is none that this release knows.
    """
    options = delivery.subscription.options
    is_message = delivery.kind is MessageType.NOTIFICATION
    if is_message and options.get(TEMPLATE_KEY):
        return filled(delivery, TEMPLATE_KEY, settings, quote=quote)
    match options.get(FORMAT_KEY):
        case None | Format.ZAQAR:
            return Form(delivery.payload)
        case Format.RAW:
            return Form(_data(delivery))
        case Format.CLOUDEVENTS:
            return _structured(delivery, settings.public_url)
        case Format.CLOUDEVENTS_BINARY:
            return _binary(delivery, settings.public_url)
        case Format.SNS:
            return _of_sns(delivery, settings, key)
        case unknown:
            raise CannotForm(f"{FORMAT_KEY} {str(unknown)[:40]!r} is not known")


def post_data_of(delivery: Delivery, settings: Settings) -> bytes | None:
    """The body that `post_data` makes; None: the subscription has no `post_data`.

    Raises:
        CannotForm: It is larger than it may be.
    """
    template = delivery.subscription.options.get(POST_DATA)
    if not isinstance(template, str) or not template:
        return None
    most_bytes = FORM_GROWTH * settings.max_messages_post_size
    body = template.encode(errors="replace")
    growth = len(delivery.payload) - len(MESSAGE_PLACEHOLDER)
    size = len(body) + body.count(MESSAGE_PLACEHOLDER) * growth
    if size > most_bytes:
        raise CannotForm(f"{POST_DATA} makes a body of {size} bytes; the limit is {most_bytes}")
    return body.replace(MESSAGE_PLACEHOLDER, delivery.payload)


def _data(delivery: Delivery) -> bytes:
    """The message's body, or all of a request to confirm."""
    is_message = delivery.kind is MessageType.NOTIFICATION
    return delivery.message.body if is_message else delivery.payload


def filled(
    delivery: Delivery,
    option: str,
    settings: Settings,
    *,
    quote: Callable[[str], str] | None = None,
) -> Form:
    """The template that is the value of an option of the delivery's subscription, filled.

    Raises:
        CannotForm: As `form_of`.
    """
    most_bytes = FORM_GROWTH * settings.max_messages_post_size
    try:
        template = template_of(orjson.dumps(delivery.subscription.options[option]))
        values = _values(delivery)
        if template.uses(UNSUBSCRIBE_URL):
            link = link_to(Purpose.UNSUBSCRIBE, delivery.subscription, settings)
            values = {**values, UNSUBSCRIBE_URL: _encode(link or None)}
        body = template.fill(values, most_bytes=most_bytes, quote=quote)
    except TooLarge:
        raise CannotForm(
            f"{option} makes a body of more than {most_bytes} bytes, the limit"
        ) from None
    except ValidationFailed as error:  # Stored before it was checked.
        raise CannotForm(str(error)) from error
    return Form(body, JSON if template.is_json else TEXT)


def _values(delivery: Delivery) -> Values:
    message, queue = delivery.message, delivery.subscription.queue
    return {
        "body": message.body,
        "attributes": message.attributes or b"{}",
        "queue": _encode(queue.public_name),
        "project": _encode(queue.project),
        "notification": delivery.payload,
        "message": _encode(
            {
                "id": delivery.message_id,
                "ttl": message.ttl,
                "posted_at": shown_instant(delivery.posted_at or delivery.sent_at),
            }
        ),
        "delivery": _encode(
            {
                "id": delivery.id,
                "attempt": delivery.attempt,
                "sent_at": shown_instant(delivery.sent_at),
            }
        ),
        "subscription": _encode({"id": delivery.subscription.id}),
    }


def _structured(delivery: Delivery, public_url: str) -> Form:
    context = _encode(dict(_event(delivery, public_url)))
    return Form(b'%b,"data":%b}' % (context[:-1], _data(delivery)), CLOUDEVENT, is_fixed=True)


def _binary(delivery: Delivery, public_url: str) -> Form:
    headers = tuple(
        (f"ce-{name}", quote(value, safe=_AS_IN_HEADERS))
        for name, value in _event(delivery, public_url)
        if name != "datacontenttype"
    )
    return Form(_data(delivery), JSON, headers, is_fixed=True)


def _of_sns(delivery: Delivery, settings: Settings, key: SigningKey | None) -> Form:
    subscription = delivery.subscription
    if delivery.kind is not MessageType.NOTIFICATION and not sns.subscribe_url(delivery):
        raise CannotForm(
            "a request to confirm in SNS's form needs its link, and ZAQAR_PUBLIC_URL is not set"
        )
    made = sns.envelope(
        delivery,
        public_url=settings.public_url,
        unsubscribe_url=link_to(Purpose.UNSUBSCRIBE, subscription, settings),
        key=key,
        version=sns_version(subscription.options),
    )
    return Form(made.text, sns.CONTENT_TYPE, made.headers, is_fixed=True)


def _event(delivery: Delivery, public_url: str) -> Iterator[tuple[str, str]]:
    """The context attributes of the CloudEvent. Those of the message whose names fit are extensions.

    Source: CloudEvents 1.0.2, "Context Attributes".
    """
    queue = delivery.subscription.queue
    kind = "topics" if queue.is_topic else "queues"
    yield "specversion", "1.0"
    yield "id", delivery.message_id
    yield "source", f"{public_url.rstrip('/')}/v2/{kind}/{quote(queue.public_name, safe='')}"
    yield "type", f"{_EVENT_TYPE}.{delivery.kind.value.lower()}"
    yield "time", shown_instant(delivery.posted_at or delivery.sent_at)
    yield "datacontenttype", JSON
    yield "zaqarproject", queue.project
    yield "zaqarqueue", queue.public_name
    taken: set[str] = set()
    for name, attribute in read_attributes(delivery.message.attributes).items():
        extension = name.lower()
        is_free = extension not in taken and not _OF_EVENTS.fullmatch(extension)
        if is_free and _EXTENSION.fullmatch(extension):
            taken.add(extension)
            value = attribute.value
            yield extension, value if isinstance(value, str) else json.dumps(value)
