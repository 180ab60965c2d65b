"""The forms of a delivery, as receivers on real sockets get them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from msgspec.structs import replace
from standardwebhooks import Webhook

from sinks.queue import QueueSink
from sinks.webhook import WebhookSink
from tests.sinks.builders import PAYLOAD, delivery_to
from tests.sinks.conftest import webhook_sink
from tests.sinks.mailers import Mailers
from tests.sinks.receiver import Receiver
from tests.sinks.relay import MailRelay
from tests.sinks.test_queue import RecordingRelay
from tests.sinks.test_webhook import SECRET
from zaqar_notify.models import Delivery, JsonObject, MessageType, Verdict
from zaqar_notify.settings import Settings

BODY = '{"order": 7, "text": "é \\u00e9",  "x": 1.10}'.encode()
POSTED_AT = datetime(2026, 1, 2, 3, 4, 4, 250000, tzinfo=UTC)
ATTRIBUTES = (
    b'{"Colour":{"type":"String","value":"bl\\u00fce \\"50%\\""},"size":{"type":"Number","value":1.50},'
    b'"too-long.for_cloudevents":{"type":"String","value":"x"},"type":{"type":"String","value":"x"}}'
)


def asked(subscriber: str, **options: object) -> Delivery:
    delivery = delivery_to(subscriber, options=options, body=BODY, secrets=[SECRET])
    message = replace(delivery.message, attributes=ATTRIBUTES)
    return replace(delivery, message=message, posted_at=POSTED_AT, sent_at=datetime.now(UTC))


async def received(receiver: Receiver, webhook: WebhookSink, **options: object) -> HTTPMessage:
    """The request of a delivery, whose signature covers its body."""
    outcome = await webhook.deliver(asked(receiver.url(), **options))

    assert outcome.verdict is Verdict.DELIVERED
    [request] = receiver.requests
    Webhook(SECRET).verify(request.body, request.headers, json_parse=False)
    return HTTPMessage(request.headers, request.body)


@pytest.mark.parametrize("options", [{}, {"_delivery_format": "zaqar"}, {"_delivery_format": None}])
async def test_zaqar_s_json_is_the_default_to_the_byte(
    receiver: Receiver, webhook: WebhookSink, options: JsonObject
) -> None:
    request = await received(receiver, webhook, **options)

    assert request.body == PAYLOAD
    assert request.headers["content-type"] == "application/json"


async def test_raw_is_the_body_to_the_byte(receiver: Receiver, webhook: WebhookSink) -> None:
    request = await received(receiver, webhook, _delivery_format="raw")

    assert request.body == BODY
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["cloudevents", "cloudevents-binary"])
async def test_the_sdk_of_cloudevents_reads_our_events(
    receiver: Receiver, settings: Settings, name: str
) -> None:
    settings = settings.model_copy(update={"public_url": "https://mq.example/x/"})
    async with webhook_sink(settings) as webhook:
        event = from_http_event(await received(receiver, webhook, _delivery_format=name))

    assert event.get_id() == "message1"
    assert event.get_source() == "https://mq.example/x/v2/queues/q1"
    assert event.get_type() == "org.openstack.zaqar.notification"
    assert event.get_time() == POSTED_AT
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == json.loads(BODY)
    extensions = {"colour": 'blüe "50%"', "size": "1.5"}
    of_queue = {"zaqarproject": "project1", "zaqarqueue": "q1"}
    context = {
        key: value
        for key, value in event.get_attributes().items()
        if key in (*extensions, *of_queue) or key.startswith("too")
    }
    assert context == extensions | of_queue


async def test_the_data_of_an_event_is_the_body_to_the_byte(
    receiver: Receiver, webhook: WebhookSink
) -> None:
    request = await received(receiver, webhook, _delivery_format="cloudevents")

    assert request.body.endswith(b',"data":' + BODY + b"}")


async def test_an_event_of_a_topic_names_it(receiver: Receiver, webhook: WebhookSink) -> None:
    options = {"_delivery_format": "cloudevents"}

    await webhook.deliver(delivery_to(receiver.url(), queue="~news", options=options))

    event = json.loads(receiver.requests[0].body)
    assert (event["source"], event["zaqarqueue"]) == ("/v2/topics/news", "news")


@pytest.mark.parametrize(
    ("name", "forged"), [("cloudevents", "content-TYPE"), ("cloudevents-binary", "CE-ID")]
)
async def test_no_header_of_a_subscription_replaces_one_of_the_format(
    receiver: Receiver, webhook: WebhookSink, name: str, forged: str
) -> None:
    headers = {"X-Key": "1", forged: "text/html"}

    request = await received(receiver, webhook, _delivery_format=name, post_headers=headers)

    assert from_http_event(request).get_id() == "message1"
    assert request.headers["x-key"] == "1"


@pytest.mark.parametrize(
    ("template", "body", "content_type"),
    [
        ({"text": "{{ queue }}: {{ body.text }}"}, b'{"text":"q1: \xc3\xa9 \\u00e9"}', "json"),
        ("order {{ body.order }}", b"order 7", "plain"),
    ],
)
async def test_a_template_makes_the_body(
    receiver: Receiver, webhook: WebhookSink, template: object, body: bytes, content_type: str
) -> None:
    request = await received(receiver, webhook, _delivery_template=template)

    assert request.body == body
    assert content_type in request.headers["content-type"]


async def test_the_content_type_of_a_template_is_the_subscription_s_to_choose(
    receiver: Receiver, webhook: WebhookSink
) -> None:
    headers = {"Content-Type": "text/markdown"}

    request = await received(
        receiver, webhook, _delivery_template="# {{ queue }}", post_headers=headers
    )

    assert request.headers["content-type"] == "text/markdown"


async def test_a_template_has_all_facts_of_a_delivery(
    receiver: Receiver, webhook: WebhookSink
) -> None:
    paths = ("message.id", "message.posted_at", "delivery.id", "delivery.attempt")
    template = [f"{{{{ {path} }}}}" for path in (*paths, "subscription.id", "attributes.size")]

    request = await received(receiver, webhook, _delivery_template=template)

    posted_at = "2026-01-02T03:04:04.250Z"
    assert json.loads(request.body) == [
        "message1",
        posted_at,
        "delivery1",
        1,
        "subscription1",
        1.5,
    ]


async def test_a_template_that_makes_too_much_is_refused_and_says_so(
    receiver: Receiver, settings: Settings
) -> None:
    settings = settings.model_copy(update={"max_messages_post_size": 100})
    delivery = asked(receiver.url(), _delivery_template=["{{ body }}"] * 20)

    async with webhook_sink(settings) as webhook:
        outcome = await webhook.deliver(delivery)

    assert outcome.verdict is Verdict.REFUSED
    assert outcome.detail == "_delivery_template makes a body of more than 400 bytes, the limit"


@pytest.mark.parametrize(
    "options", [{"_delivery_format": "xml"}, {"_delivery_template": "{{ x }}"}]
)
async def test_an_option_that_was_stored_before_it_was_checked_is_refused_and_says_so(
    receiver: Receiver, webhook: WebhookSink, options: JsonObject
) -> None:
    outcome = await webhook.deliver(asked(receiver.url(), **options))

    assert outcome.verdict is Verdict.REFUSED
    assert next(iter(options)) in outcome.detail
    assert not receiver.requests


@pytest.mark.parametrize(
    "options", [{"_delivery_format": "raw"}, {"_delivery_template": ["{{ queue }}"]}]
)
async def test_a_request_to_confirm_keeps_zaqar_s_form(
    receiver: Receiver, webhook: WebhookSink, options: JsonObject
) -> None:
    delivery = asked(receiver.url(), **options)

    await webhook.deliver(replace(delivery, kind=MessageType.SUBSCRIPTION_CONFIRMATION))

    assert receiver.requests[0].body == PAYLOAD


async def test_a_request_to_confirm_is_an_event_of_its_own_type(
    receiver: Receiver, webhook: WebhookSink
) -> None:
    delivery = asked(receiver.url(), _delivery_format="cloudevents")

    await webhook.deliver(replace(delivery, kind=MessageType.SUBSCRIPTION_CONFIRMATION))

    event = json.loads(receiver.requests[0].body)
    assert event["type"] == "org.openstack.zaqar.subscriptionconfirmation"
    assert event["data"] == json.loads(PAYLOAD)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"_delivery_format": "raw"}, BODY.decode()),
        ({"_delivery_template": "Order {{ body.order }}:\n{{ body.text }}"}, "Order 7:\né é"),
        ({"_delivery_template": {"n": "{{ body.order }}"}}, '{"n":7}'),
    ],
)
async def test_a_mail_has_the_form_that_is_asked_for(
    relay: MailRelay, mailers: Mailers, options: JsonObject, text: str
) -> None:
    await mailers.to(relay).deliver(asked("mailto:you@example.org", **options))

    [mail] = relay.mails
    assert mail.content.get_content().strip() == text


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({"_delivery_format": "zaqar"}, json.loads(BODY)),
        ({"_delivery_format": "raw"}, json.loads(BODY)),
        ({"_delivery_template": {"n": "{{ body.order }}"}}, {"n": 7}),
        ({"_delivery_template": "order\n{{ body.order }}"}, "order\n7"),
    ],
)
async def test_a_queue_gets_a_message_with_the_form_that_is_asked_for(
    options: JsonObject, body: Any
) -> None:
    relay = RecordingRelay()

    await QueueSink(relay, Settings()).deliver(asked("queue:q2", **options))

    [(_, message, _, _)] = relay.posts
    assert json.loads(message.body) == body
    assert message.attributes == ATTRIBUTES


async def test_a_queue_gets_events() -> None:
    relay = RecordingRelay()

    await QueueSink(relay, Settings()).deliver(asked("queue:q2", _delivery_format="cloudevents"))

    [(_, message, _, _)] = relay.posts
    event = json.loads(message.body)
    assert (event["specversion"], event["id"]) == ("1.0", "message1")
