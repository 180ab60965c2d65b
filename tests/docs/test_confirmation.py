"""docs/confirmation.md is about the code as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from api.v2.suppressions import RESOURCES
from sinks.mail_content import HTML, SUBJECT
from tests.docs.pages import blocks, named, read, rows, section
from tests.kinds import KINDS
from tests.sinks.mailers import Mailers
from tests.sinks.relay import MailRelay, relaying
from tests.sinks.test_mail_content import mailed, parts
from zaqar_notify.delivery.subscribers import check_options, check_use
from zaqar_notify.rules.formats import POST_DATA
from zaqar_notify.rules.placeholders import TEMPLATE_KEY
from zaqar_notify.settings import Settings

PAGE = read("confirmation.md")
TEXT_AND_HTML = section(PAGE, "## Text and HTML")


@pytest.fixture
async def relay() -> AsyncIterator[MailRelay]:
    async with relaying() as relay:
        yield relay


@pytest.fixture
async def mailers() -> AsyncIterator[Mailers]:
    mailers = Mailers()
    yield mailers
    await mailers.close()


def test_every_setting_is_one() -> None:
    listed = [named(row[0])[0] for row in rows(section(PAGE, "## Settings"))]

    assert {name.removeprefix("ZAQAR_").lower() for name in listed} <= Settings.model_fields.keys()


def test_every_option_of_the_content_is_listed() -> None:
    listed = {named(row[0])[0] for row in rows(TEXT_AND_HTML)}

    assert listed == {TEMPLATE_KEY, POST_DATA, HTML, SUBJECT}


async def test_the_options_of_the_example_make_the_mail_that_they_say(
    relay: MailRelay, mailers: Mailers
) -> None:
    options = json.loads(blocks(TEXT_AND_HTML, "json")[0])
    check_use("mailto:you@example.org", check_options(options, KINDS), KINDS, Settings())
    settings = {"public_url": "https://mq.example.org", "signed_url_secrets": "key"}

    mail = await mailed(relay, mailers, options, **settings)

    (_, text), (_, html) = parts(mail)
    assert mail.content["Subject"] == "Order"
    assert text.startswith("Order  of somebody\n\nUnsubscribe: https://mq.example.org/")
    assert '<a href="https://mq.example.org/v2/unsubscribe?token=' in html


def test_the_example_of_the_list_is_a_page_of_it() -> None:
    [example] = blocks(section(PAGE, "## Unsubscribing"), "json")
    [reply] = RESOURCES[0].operations["GET"].replies.values()

    [shown] = json.loads(example)["suppressions"]
    assert list(shown) == list(type(reply.example.suppressions[0]).__struct_fields__)  # type: ignore[union-attr]
