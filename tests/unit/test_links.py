"""Tokens in links: each does one thing, for one subscriber of one subscription, for as long as it says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.clock import START
from zaqar_notify.delivery.links import Purpose, link_to, make_token, read_token
from zaqar_notify.errors import LinkNotValid
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.settings import Settings

SETTINGS = Settings(
    public_url="https://mq.example.org/messaging/", signed_url_secrets=("first", "second")
)
SUBSCRIPTION = Subscription(
    id="s1",
    queue=QueueRef("p1", "orders"),
    subscriber="mailto:you@example.org",
    ttl=60,
    options={},
    created_at=START,
    expires_at=START + timedelta(seconds=60),
)


def token(purpose: Purpose = Purpose.CONFIRM, *, seconds: int | None = 60) -> str:
    expires_at = None if seconds is None else START + timedelta(seconds=seconds)
    return make_token(purpose, SUBSCRIPTION, SETTINGS, expires_at=expires_at)


def test_a_token_says_which_subscription_it_is_for() -> None:
    link = read_token(token(), Purpose.CONFIRM, SETTINGS, now=START)

    link.check(SUBSCRIPTION)
    assert (link.ref, link.subscription_id) == (SUBSCRIPTION.queue, "s1")


def test_a_token_expires_at_its_instant_and_one_without_an_instant_never() -> None:
    read_token(token(), Purpose.CONFIRM, SETTINGS, now=START + timedelta(seconds=59))
    read_token(token(seconds=None), Purpose.CONFIRM, SETTINGS, now=START + timedelta(days=9999))

    with pytest.raises(LinkNotValid):
        read_token(token(), Purpose.CONFIRM, SETTINGS, now=START + timedelta(seconds=60))


def test_a_token_has_one_purpose() -> None:
    with pytest.raises(LinkNotValid):
        read_token(token(Purpose.UNSUBSCRIBE), Purpose.CONFIRM, SETTINGS, now=START)


def test_a_token_is_for_the_subscriber_that_it_was_made_for() -> None:
    link = read_token(token(), Purpose.CONFIRM, SETTINGS, now=START)

    with pytest.raises(LinkNotValid):
        link.check(replace(SUBSCRIPTION, subscriber="mailto:victim@example.org"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.b",
        "é.é",
        "A" * 4096,
        token()[:-2],
        "A" + token(),
        token().replace(".", ""),
        token(seconds=61).split(".")[0] + "." + token().split(".")[1],
    ],
)
def test_a_text_that_was_not_made_here_is_no_token(text: str) -> None:
    with pytest.raises(LinkNotValid):
        read_token(text, Purpose.CONFIRM, SETTINGS, now=START)


def test_a_token_outlives_a_change_of_keys_until_its_key_is_removed() -> None:
    changed = Settings(signed_url_secrets=("new", "first"))
    read_token(token(), Purpose.CONFIRM, changed, now=START)

    with pytest.raises(LinkNotValid):
        read_token(token(), Purpose.CONFIRM, Settings(signed_url_secrets=("new",)), now=START)


def test_a_link_is_below_the_public_url() -> None:
    link = link_to(Purpose.UNSUBSCRIBE, SUBSCRIPTION, SETTINGS)

    assert link.startswith("https://mq.example.org/messaging/v2/unsubscribe?token=")


@pytest.mark.parametrize(
    "settings", [Settings(signed_url_secrets=("key",)), Settings(public_url="https://example.org")]
)
def test_without_a_public_url_or_a_key_there_is_no_link(settings: Settings) -> None:
    assert link_to(Purpose.UNSUBSCRIBE, SUBSCRIPTION, settings) == ""


def test_the_links_of_the_longest_names_are_read() -> None:
    longest = replace(SUBSCRIPTION, queue=QueueRef("é" * 256, "q" * 64))
    made = make_token(Purpose.CONFIRM, longest, SETTINGS)

    assert read_token(made, Purpose.CONFIRM, SETTINGS, now=START).ref == longest.queue
