"""The content of mails that subscriptions choose, through a real SMTP server."""

from __future__ import annotations

import json
from email.message import EmailMessage
from typing import Any

import pytest

from tests.sinks.builders import PAYLOAD, delivery_to
from tests.sinks.mailers import Mailers
from tests.sinks.relay import Mail, MailRelay
from zaqar_notify.models import JsonObject, Verdict

ENCODED = "=?utf-8?q?x=0ABcc=3A_c=40d?="
ORDER = json.dumps(
    {
        "id": 7,
        "name": 'Zoë <b>&"</b>',
        "lines": "two\r\nBcc: c@d",
        "encoded": ENCODED,
        "long": "é" * 600,
    }
).encode()


async def mailed(
    relay: MailRelay,
    mailers: Mailers,
    options: JsonObject,
    uri: str = "mailto:you@example.org",
    **settings: Any,
) -> Mail:
    """The mail that an order becomes."""
    mailer = mailers.to(relay, **settings)
    outcome = await mailer.deliver(delivery_to(uri, options=options, body=ORDER))
    assert outcome.verdict is Verdict.DELIVERED
    return relay.mails[-1]


def parts(mail: Mail) -> list[tuple[str, str]]:
    """The types and the texts of the parts, in their order."""
    content = mail.content
    every = [part for part in content.walk() if not part.is_multipart()]
    assert all(isinstance(part, EmailMessage) for part in every)
    return [
        (part.get_content_type(), part.get_content().strip().replace("\r\n", "\n"))
        for part in every
    ]


async def test_a_template_is_the_text_of_a_mail(relay: MailRelay, mailers: Mailers) -> None:
    mail = await mailed(relay, mailers, {"_delivery_template": "Order {{ body.id }}\nThanks"})

    assert parts(mail) == [("text/plain", "Order 7\nThanks")]


async def test_post_data_is_the_text_of_a_mail(relay: MailRelay, mailers: Mailers) -> None:
    mail = await mailed(relay, mailers, {"post_data": '{"event": "$zaqar_message$"}'})

    assert parts(mail) == [("text/plain", f'{{"event": {PAYLOAD.decode()}}}')]


async def test_html_stands_beside_the_text_with_values_that_are_no_markup(
    relay: MailRelay, mailers: Mailers
) -> None:
    options = {
        "_delivery_template": "Hello {{ body.name }}",
        "html": '<p title="{{ body.name }}">Hello {{ body.name }}</p>',
    }

    mail = await mailed(relay, mailers, options)

    name = "Zoë &lt;b&gt;&amp;&quot;&lt;/b&gt;"
    assert mail.content.get_content_type() == "multipart/alternative"
    assert parts(mail) == [
        ("text/plain", 'Hello Zoë <b>&"</b>'),
        ("text/html", f'<p title="{name}">Hello {name}</p>'),
    ]
    assert mail.raw.isascii()
    assert max(map(len, mail.raw.splitlines())) <= 998


async def test_without_a_template_html_stands_beside_zaqars_json(
    relay: MailRelay, mailers: Mailers
) -> None:
    mail = await mailed(relay, mailers, {"html": "<p>News</p>"})

    assert parts(mail) == [("text/plain", PAYLOAD.decode()), ("text/html", "<p>News</p>")]


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("Order {{ body.id }} of {{ queue }}", "Order 7 of q1"),
        ("{{ body.lines }}", "two Bcc: c@d"),
        ('{{ body.none | "nothing" }}', "nothing"),
        ("[[urgent]] order", "[[urgent]] order"),
        ("{{ body.encoded }}", ENCODED),
        ("{{ body.long }}", "é" * 512),
        ("a {{ broken", "a {{ broken"),
    ],
)
async def test_a_subject_has_values_and_stays_one_line(
    relay: MailRelay, mailers: Mailers, subject: str, shown: str
) -> None:
    mail = await mailed(relay, mailers, {"subject": subject})

    assert mail.content["Subject"] == shown
    assert mail.content["Bcc"] is None
    assert b"\nBcc:" not in mail.raw


async def test_a_template_can_show_the_link_to_unsubscribe(
    relay: MailRelay, mailers: Mailers
) -> None:
    options = {
        "_delivery_template": "Leave: {{ unsubscribe_url }}",
        "html": '<a href="{{ unsubscribe_url }}">Leave</a>',
    }
    settings = {"public_url": "https://mq.example.org", "signed_url_secrets": "key"}

    mail = await mailed(relay, mailers, options, **settings)
    without = await mailed(relay, mailers, options)

    link = str(mail.content["List-Unsubscribe"]).strip("<>")
    assert b"List-Unsubscribe: <https://mq.example.org/v2/unsubscribe?token=" in mail.raw
    assert parts(mail) == [
        ("text/plain", f"Leave: {link}"),
        ("text/html", f'<a href="{link}">Leave</a>'),
    ]
    assert mail.content["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert without.content["List-Unsubscribe"] is None
    assert parts(without)[0] == ("text/plain", "Leave:")


async def test_the_longest_names_make_no_line_that_smtp_can_t_carry(
    relay: MailRelay, mailers: Mailers
) -> None:
    settings = {"public_url": "https://mq.example.org", "signed_url_secrets": "key"}
    delivery = delivery_to("mailto:a@b", project="é" * 256, queue="q" * 64)

    await mailers.to(relay, **settings).deliver(delivery)

    assert max(map(len, relay.mails[0].raw.splitlines())) <= 998


@pytest.mark.parametrize("option", ["post_data", "_delivery_template", "html"])
async def test_content_that_grows_without_measure_is_refused(
    relay: MailRelay, mailers: Mailers, option: str
) -> None:
    placeholder = '"$zaqar_message$"' if option == "post_data" else "{{ notification }}"
    mailer = mailers.to(relay, max_messages_post_size=1000)
    delivery = delivery_to("mailto:a@b", options={option: placeholder * 100})

    outcome = await mailer.deliver(delivery)

    assert outcome.verdict is Verdict.REFUSED
    assert option in outcome.detail
    assert not relay.mails
