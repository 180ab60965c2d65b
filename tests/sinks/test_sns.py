"""Envelopes of SNS: their fields, headers and signatures. `tests/tls/test_sns.py` has SNS's own library judge them."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import load_pem_x509_certificate
from msgspec.structs import replace

from sinks.guard import AddressGuard
from sinks.queue import QueueSink
from sinks.webhook import WebhookSink
from tests.sinks.builders import SENT_AT, delivery_to
from tests.sinks.receiver import Receiver, Request
from tests.sinks.test_queue import RecordingRelay
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Delivery, MessageType, Outcome, Verdict
from zaqar_notify.rules.certificates import SigningKey, make_signing_key
from zaqar_notify.settings import Settings

KEY = make_signing_key(datetime.now(UTC))
URL = "https://mq.example/x"
ARN = "arn:zaqar:sns::project1:q1"
LINK = f"{URL}/v2/confirm?token=t1.s1"
CONFIRMATION = json.dumps({"Message": "Zaqar's", "SubscribeURL": LINK}).encode()
CONFIRMATIONS = [MessageType.SUBSCRIPTION_CONFIRMATION, MessageType.UNSUBSCRIBE_CONFIRMATION]


class SigningRelay(RecordingRelay):
    async def signing_key(self) -> SigningKey:
        if self.error:
            raise self.error
        return KEY


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"public_url": URL})


@pytest.fixture
async def sink(settings: Settings) -> AsyncIterator[WebhookSink]:
    guard = AddressGuard(allow=settings.delivery_allow, deny=settings.delivery_deny)
    sink = WebhookSink(settings, guard, SigningRelay())
    yield sink
    await sink.close()


def asked(
    subscriber: str,
    *,
    body: bytes = b'{"order": 7}',
    kind: MessageType = MessageType.NOTIFICATION,
    payload: bytes = CONFIRMATION,
    **options: object,
) -> Delivery:
    options = {"_delivery_format": "sns"} | options
    return delivery_to(subscriber, body=body, kind=kind, payload=payload, options=options)


async def sent(sink: WebhookSink, receiver: Receiver, **asking: Any) -> Request:
    outcome = await sink.deliver(asked(receiver.url(), **asking))

    assert outcome.verdict is Verdict.DELIVERED
    [request] = receiver.requests
    return request


def check(fields: dict[str, str], *names: str) -> None:
    """Verify the signature as SNS's guide says, over these fields."""
    public = load_pem_x509_certificate(KEY.certificate).public_key()
    assert isinstance(public, RSAPublicKey)
    text = "".join(f"{name}\n{fields[name]}\n" for name in names)
    # SNS's version 1.
    digest = SHA1() if fields["SignatureVersion"] == "1" else SHA256()  # noqa: S303
    public.verify(b64decode(fields["Signature"]), text.encode(), PKCS1v15(), digest)


async def test_a_message_has_the_fields_and_headers_of_sns(
    sink: WebhookSink, receiver: Receiver
) -> None:
    request = await sent(sink, receiver)

    fields = json.loads(request.body)
    signature = fields.pop("Signature")
    assert len(b64decode(signature)) == 256
    assert fields == {
        "Type": "Notification",
        "MessageId": "message1",
        "TopicArn": ARN,
        "Message": '{"order": 7}',
        "Timestamp": "2026-01-02T03:04:05.000Z",
        "SignatureVersion": "1",
        "SigningCertURL": f"{URL}/v2/certificates/{KEY.name}",
    }
    of_sns = {name: text for name, text in request.headers.items() if name.startswith("x-amz-")}
    assert of_sns == {
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-message-id": "message1",
        "x-amz-sns-topic-arn": ARN,
        "x-amz-sns-subscription-arn": f"{ARN}:subscription1",
    }
    assert request.headers["content-type"] == "text/plain; charset=UTF-8"


@pytest.mark.parametrize(("signature", "version"), [(None, "1"), ("sns-v1", "1"), ("sns-v2", "2")])
async def test_a_signature_covers_the_fields_that_sns_names(
    sink: WebhookSink, receiver: Receiver, signature: str | None, version: str
) -> None:
    request = await sent(sink, receiver, body='"ü\\n"'.encode(), _signature=signature)

    fields = json.loads(request.body)
    assert fields["SignatureVersion"] == version
    assert fields["Message"] == "ü\n"
    check(fields, "Message", "MessageId", "Timestamp", "TopicArn", "Type")


@pytest.mark.parametrize("kind", CONFIRMATIONS)
async def test_a_request_to_confirm_has_the_link_and_its_token(
    sink: WebhookSink, receiver: Receiver, kind: MessageType
) -> None:
    request = await sent(sink, receiver, kind=kind)

    fields = json.loads(request.body)
    assert (fields["Type"], fields["SubscribeURL"], fields["Token"]) == (kind, LINK, "t1.s1")
    assert ARN in fields["Message"]
    signed = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    check(fields, *signed)


@pytest.mark.parametrize("signature", ["hmac", "ed25519"])
async def test_another_signature_leaves_the_fields_of_sns_s_out(
    settings: Settings, receiver: Receiver, signature: str
) -> None:
    guard = AddressGuard(allow=settings.delivery_allow, deny=settings.delivery_deny)
    sink = WebhookSink(settings, guard)

    request = await sent(sink, receiver, _signature=signature)
    await sink.close()

    assert not {"Signature", "SignatureVersion", "SigningCertURL"} & set(json.loads(request.body))


async def test_headers_of_the_subscription_do_not_replace_those_of_sns(
    sink: WebhookSink, receiver: Receiver
) -> None:
    headers = {"X-Amz-Sns-Message-Type": "x", "Content-Type": "text/html", "X-Key": "1"}

    request = await sent(sink, receiver, post_headers=headers)

    assert request.headers["x-amz-sns-message-type"] == "Notification"
    assert request.headers["content-type"] == "text/plain; charset=UTF-8"
    assert request.headers["x-key"] == "1"


async def test_a_request_to_confirm_without_a_link_is_refused_and_says_so(
    sink: WebhookSink, receiver: Receiver
) -> None:
    delivery = asked(receiver.url(), kind=CONFIRMATIONS[0], payload=b"{}")

    outcome = await sink.deliver(delivery)

    assert outcome.verdict is Verdict.REFUSED
    assert "ZAQAR_PUBLIC_URL is not set" in outcome.detail


async def test_deliveries_wait_while_the_key_can_t_be_read() -> None:
    relay = SigningRelay(StorageUnavailable("gone"))
    sink = QueueSink(relay, Settings(public_url=URL))

    outcome = await sink.deliver(asked("queue:q2"))

    assert outcome.verdict is Verdict.POSTPONED


@pytest.mark.parametrize("public_url", ["", "http://mq.example"])
async def test_deliveries_wait_while_the_operator_s_settings_permit_no_signature(
    public_url: str,
) -> None:
    sink = QueueSink(SigningRelay(), Settings(public_url=public_url))

    outcome = await sink.deliver(asked("queue:q2"))

    assert outcome.verdict is Verdict.POSTPONED
    assert outcome.retry_after_seconds


async def test_a_queue_gets_the_envelope_as_its_message(settings: Settings) -> None:
    relay = SigningRelay()
    posted_at = SENT_AT.replace(microsecond=1500)

    outcome = await QueueSink(relay, settings).deliver(
        replace(asked("queue:q2"), posted_at=posted_at)
    )

    assert outcome == Outcome(Verdict.DELIVERED)
    fields = json.loads(relay.posts[0][1].body)
    assert fields["Timestamp"] == "2026-01-02T03:04:05.001Z"
    check(fields, "Message", "MessageId", "Timestamp", "TopicArn", "Type")
