"""Deliveries by mail, to a real SMTP server: the form of a mail, and mails that are never sent."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.header import decode_header, make_header
from email.utils import getaddresses

import pytest

from tests.sinks.builders import delivery_to
from tests.sinks.mailers import Mailers
from tests.sinks.relay import MailRelay
from zaqar_notify.models import JsonObject, MessageType, Outcome, Verdict
from zaqar_notify.rules.attributes import canonical
from zaqar_notify.settings import Settings

CONFIRMATION = {
    "Message_Type": "SubscriptionConfirmation",
    "URL-Signature": "ab12",
    "URL-Methods": "PUT",
    "URL-Paths": "/v2/queues/q1/subscriptions/s1/confirm",
    "X-Project-ID": "project1",
    "URL-Expires": "2026-11-20T20:17:57",
    "WSGISubscribeURL": "http://zaqar.example/v2/queues/q1/subscriptions/s1/confirm",
    "queue_name": "q1",
}


async def test_the_payload_is_mailed_as_plain_text(relay: MailRelay, mailers: Mailers) -> None:
    payload = '{"body": "é and a long line ' + "x" * 2000 + '"}'

    outcome = await mailers.to(relay).deliver(
        delivery_to("mailto:you@example.org", payload=payload.encode())
    )

    [mail] = relay.mails
    assert outcome == Outcome(Verdict.DELIVERED, 250)
    assert mail.sender == "zaqar@example.org"
    assert mail.recipients == ["you@example.org"]
    assert mail.content.get_content_type() == "text/plain"
    assert mail.content.get_content().strip() == payload
    assert mail.raw.isascii()


async def test_headers_tell_what_was_mailed(relay: MailRelay, mailers: Mailers) -> None:
    await mailers.to(relay).deliver(delivery_to("mailto:you@example.org"))

    headers = relay.mails[0].content
    assert headers["From"] == "Zaqar <zaqar@example.org>"
    assert headers["To"] == "you@example.org"
    assert headers["Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    assert headers["Message-ID"] == "<delivery1@example.org>"
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["Zaqar-Message-Id"] == "message1"
    assert headers["Zaqar-Subscription-Id"] == "subscription1"
    assert headers["Zaqar-Queue"] == "q1"


@pytest.mark.parametrize("text", ["blue", "é =?x?= \r\nBcc: c@d", "words  and " * 300, "x" * 3900])
async def test_attributes_travel_as_json_in_one_header(
    relay: MailRelay, mailers: Mailers, text: str
) -> None:
    attributes = canonical(json.dumps({"a": text}).encode())

    await mailers.to(relay).deliver(delivery_to("mailto:you@example.org", attributes=attributes))

    [mail] = relay.mails
    told = json.loads(str(make_header(decode_header(mail.content["Zaqar-Attributes"]))))
    assert told == {"a": {"type": "String", "value": text}}
    assert max(map(len, mail.raw.splitlines())) <= 998
    assert mail.content["Bcc"] is None


@pytest.mark.parametrize(
    ("uri", "options", "subject"),
    [
        ("mailto:a@b", {}, ""),
        ("mailto://a@b", {}, ""),
        ("mailto:a%40b", {}, ""),
        ("mailto:a@b", {"subject": "2 + 2 =? 4, ?= 5, =?x?="}, "2 + 2 =? 4, ?= 5, =?x?="),
        ("mailto:a@b", {"subject": "ü" * 512}, "ü" * 512),
        ("mailto:a@b", {"subject": "words and " * 50}, "words and " * 50),
        ("mailto:a@b", {"subject": "from options, é"}, "from options, é"),
        ("mailto:a@b?subject=from%20uri+%C3%A9", {"subject": "x"}, "from uri+é"),
        ("mailto:a@b?cc=c@d&Subject=first&subject=second", {}, "first"),
        ("mailto:a@b?subject=", {"subject": "x"}, ""),
        ("MAILTO:a@b?body=x", {"subject": 7}, ""),
    ],
)
async def test_the_subject_of_the_uri_wins(
    relay: MailRelay, mailers: Mailers, uri: str, options: JsonObject, subject: str
) -> None:
    await mailers.to(relay).deliver(delivery_to(uri, options=options))

    [mail] = relay.mails
    assert mail.content["Subject"] == subject
    assert mail.recipients == ["a@b"]


@pytest.mark.parametrize(
    "asked",
    [
        "me@example.com",
        "Me <me@example.com>",
        '"Me, myself" <me@example.com>',
        "a@b, <me@example.com>",
        "Crème, Brûlée " * 8 + "<me@example.com>",
        "a" * 60 + ", b@c.example, " + "d" * 40 + " <me@example.com>",
        'x\\", b@c.example <me@example.com>',
    ],
)
@pytest.mark.parametrize(
    ("senders", "header"),
    [("", "Reply-To"), ("@other.example, me@example.com", "From"), ("@EXAMPLE.com", "From")],
)
async def test_a_subscription_chooses_its_sender_among_the_operators_or_else_the_reply_address(
    relay: MailRelay, mailers: Mailers, asked: str, senders: str, header: str
) -> None:
    """Always one address, whatever is in the name; and the operator gets the bounces."""
    mailer = mailers.to(relay, smtp_senders=senders)

    await mailer.deliver(delivery_to("mailto:a@b", options={"from": asked}))

    [mail] = relay.mails
    [(encoded, address)] = getaddresses([message_from_bytes(mail.raw)[header]])
    name = str(make_header(decode_header(encoded)))
    assert address == "me@example.com"
    assert name == asked.rpartition("<")[0].strip(' "') or "\\" in name
    assert mail.sender == "zaqar@example.org"
    assert mail.recipients == ["a@b"]
    if header == "Reply-To":
        assert mail.content["From"] == "Zaqar <zaqar@example.org>"


async def test_without_an_operators_sender_mails_wait_for_the_operator(
    relay: MailRelay, mailers: Mailers
) -> None:
    outcome = await mailers.to(relay, smtp_sender="").deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.POSTPONED
    assert "ZAQAR_SMTP_SENDER" in outcome.detail


@pytest.mark.parametrize(
    "uri",
    [
        "mailto:",
        "mailto:nobody",
        "mailto:@b",
        "mailto:a@",
        "mailto:a@b@c",
        "mailto:a@b,c@d",
        "mailto:a%40b%2Cc@d",
        "mailto:a@b%0d%0aBcc:%20c@d",
        "mailto:a@b%0aBcc:c@d",
        "mailto:a@b\r\nBcc: c@d",
        "mailto:a%00@b",
        "mailto:a b@c",
        "mailto:<a@b>",
        "mailto:-oQ@b",
        "mailto:a@b;c",
        "mailto:é@b",
        "mailto:a@b?subject=x%0d%0aBcc:%20c@d",
        "mailto:a@b?subject=x%0aBcc:c@d",
        "mailto:a@b?subject=%3D%3Futf-8%3Fq%3Fx%3D0ABcc%3A_c%3D40d%3F%3D",
        "mailto://",
        "mailto:////a@b@c",
        "mailto://a@b/c",
        "mailto:=?utf-8?q?x=0ABcc=3A?=@b",
        "mailto:a@-b.example",
        f"mailto:{'a' * 65}@b",
    ],
)
async def test_what_is_not_one_plain_address_and_subject_is_refused(
    relay: MailRelay, mailers: Mailers, uri: str
) -> None:
    outcome = await mailers.to(relay).deliver(delivery_to(uri))

    assert outcome.verdict is Verdict.REFUSED
    assert outcome.detail
    assert not relay.mails


@pytest.mark.parametrize(
    "options",
    [
        {"subject": "x\r\nBcc: c@d"},
        {"subject": "x\ny"},
        {"subject": "=?utf-8?q?x=0ABcc=3A_evil=40example.org?="},
        {"subject": "Hello =?UTF-8*en?B?eApCY2M6IHhAeQ==?= there"},
        {"subject": "=??Q?x?="},
        {"from": "=?utf-8?q?x=0ABcc=3A_evil=40example.org?= <a@b>"},
        {"from": "=?utf-8?q?x@y,?= <a@b>"},
        {"from": "a@b\r\nBcc: c@d"},
        {"from": "Me\n <a@b>"},
        {"from": "a@b, c@d"},
        {"from": "<a@b> <c@d>"},
        {"from": "nobody"},
    ],
)
async def test_options_cannot_smuggle_headers_in(
    relay: MailRelay, mailers: Mailers, options: JsonObject
) -> None:
    """Not those of a subscription that was stored before it was checked, either."""
    outcome = await mailers.to(relay).deliver(delivery_to("mailto:a@b", options=options))

    assert outcome.verdict is Verdict.REFUSED
    assert not relay.mails


async def test_a_mail_has_our_headers_and_no_others(relay: MailRelay, mailers: Mailers) -> None:
    options = {
        "from": "Ops, =? Bcc: x@y ?= =_utf-8_q_=0ABcc:_x=40y_ <me@example.com>",
        "subject": "é Bcc: x@y =?utf-8 =0ABcc: x@y ?=",
    }
    await mailers.to(relay).deliver(delivery_to("mailto:a@b", options=options))

    [mail] = relay.mails
    assert mail.content.keys() == [
        *("From", "Reply-To", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
        *("Zaqar-Message-Id", "Zaqar-Subscription-Id", "Zaqar-Queue"),
        *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
    ]
    assert mail.content["Subject"] == options["subject"]


async def test_without_a_relay_mail_waits_for_the_settings_to_be_set(mailers: Mailers) -> None:
    outcome = await mailers.of(Settings()).deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.POSTPONED
    assert "ZAQAR_SMTP_HOST" in outcome.detail
    assert "ZAQAR_SENDMAIL_COMMAND" in outcome.detail


@pytest.mark.parametrize(
    ("kind", "subject", "words"),
    [
        (
            MessageType.SUBSCRIPTION_CONFIRMATION,
            "Zaqar Notification - Subscription Confirmation",
            "You have chosen to subscribe to the queue: q1. This queue belongs to project: project1.",
        ),
        (
            MessageType.UNSUBSCRIBE_CONFIRMATION,
            "Zaqar Notification - Unsubscribe Confirmation",
            "You have unsubscribed successfully to the queue: q1.",
        ),
    ],
)
async def test_a_confirmation_mail_has_a_link_to_the_operators_page(
    relay: MailRelay, mailers: Mailers, kind: MessageType, subject: str, words: str
) -> None:
    mailer = mailers.to(relay, external_confirmation_url="https://page.example/confirm")

    await mailer.deliver(
        delivery_to(
            "mailto:a@b?subject=mine",
            options={"from": "me@example.com"},
            kind=kind,
            payload=json.dumps(CONFIRMATION).encode(),
        )
    )

    content = relay.mails[0].content
    assert content["Subject"] == subject
    assert content["From"] == "Zaqar <zaqar@example.org>"
    assert content.get_content().startswith(words)
    assert (
        content.get_content()
        .strip()
        .endswith(
            "https://page.example/confirm?Signature=ab12&Methods=PUT"
            "&Paths=/v2/queues/q1/subscriptions/s1/confirm&Project=project1"
            "&Expires=2026-11-20T20:17:57"
            "&Url=http://zaqar.example/v2/queues/q1/subscriptions/s1/confirm&Queue=q1"
        )
    )


async def test_a_confirmation_mail_of_a_topic_says_so(relay: MailRelay, mailers: Mailers) -> None:
    mailer = mailers.to(relay, external_confirmation_url="https://page.example/confirm")
    kind, payload = MessageType.SUBSCRIPTION_CONFIRMATION, json.dumps(CONFIRMATION).encode()

    await mailer.deliver(delivery_to("mailto:a@b", queue="~q1", kind=kind, payload=payload))

    content = relay.mails[0].content
    assert content["Zaqar-Queue"] == "q1"
    assert content.get_content().startswith(
        "You have chosen to subscribe to the topic: q1. This topic belongs to project: project1."
    )


async def test_a_confirmation_mail_has_no_free_text_of_the_tenants(
    relay: MailRelay, mailers: Mailers
) -> None:
    """A project's name may be any text, where no identity service checks it."""
    mailer = mailers.to(relay, external_confirmation_url="https://page.example/confirm")
    facts = CONFIRMATION | {"X-Project-ID": "x. You won! Visit http://evil.example/ now"}

    await mailer.deliver(
        delivery_to(
            "mailto:a@b?subject=You%20won!",
            options={"from": "You won! <me@example.com>", "subject": "You won!"},
            kind=MessageType.SUBSCRIPTION_CONFIRMATION,
            payload=json.dumps(facts).encode(),
        )
    )

    [mail] = relay.mails
    assert b"You won" not in mail.raw
    assert b"evil.example/" not in mail.raw
    assert b"project: x.%20You%20won%21%20Visit" in mail.raw


async def test_without_the_operators_page_confirmations_wait_and_notifications_do_not(
    relay: MailRelay, mailers: Mailers
) -> None:
    kind = MessageType.SUBSCRIPTION_CONFIRMATION
    payload = json.dumps(CONFIRMATION).encode()
    mailer = mailers.to(relay)

    outcome = await mailer.deliver(delivery_to("mailto:a@b", kind=kind, payload=payload))
    other = await mailer.deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.POSTPONED
    assert "ZAQAR_EXTERNAL_CONFIRMATION_URL" in outcome.detail
    assert other.verdict is Verdict.DELIVERED
