"""The pages about formats and signatures: their examples work as written, and their numbers are the code's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from sinks.email import MailKind
from sinks.queue import QueueKind
from sinks.webhook import WebhookKind
from tests.docs.pages import blocks, named, read, rows, section
from tests.docs.tour import assert_every_block_is_run, play
from tests.unit.test_webhook_signing import NOW, secrets_of, subscription
from zaqar_notify.delivery.forms import FORM_GROWTH
from zaqar_notify.rules.formats import Format, Signature
from zaqar_notify.rules.placeholders import FIELDS, MAX_STEPS, ROOTS
from zaqar_notify.rules.templates import MAX_PLACEHOLDERS
from zaqar_notify.rules.webhook_signing import MAX_OVERLAP_SECONDS, public_keys, sign_webhook

PAGE = read("formats.md")
SIGNATURES = read("signatures.md")
START = "make up\n```\n"
WORDS = {"webhooks": WebhookKind, "mail": MailKind, "queues": QueueKind}


def test_the_examples_print_what_the_pages_show(tmp_path: Path) -> None:
    assert_every_block_is_run(PAGE)

    # Both begin with the service: one is enough.
    play(PAGE + SIGNATURES.partition(START)[2], tmp_path)


def test_the_python_of_the_page_verifies_a_signature_with_the_present_or_a_former_key() -> None:
    example, _ = blocks(SIGNATURES, "python")
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - it is the page's.
    chosen = subscription(generation=1, rotations=(NOW,), signature=Signature.ED25519)
    publics = public_keys("m", chosen, now=NOW, overlap_seconds=60)
    headers = {
        "webhook-id": "msg1",
        "webhook-timestamp": "7",
        "webhook-signature": sign_webhook(secrets_of(chosen), "msg1", 7, b"{}"),
    }

    assert len(publics) == 2
    for key in publics:
        assert names["is_ours"]([key], headers, b"{}")
    assert not names["is_ours"](publics, headers, b"[]")


def test_the_python_of_the_page_with_a_library_verifies_the_default_signature() -> None:
    _, example = blocks(SIGNATURES, "python")
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - it is the page's.
    signed_by = secrets_of(subscription())
    now = int(time.time())
    headers = {
        "webhook-id": "msg1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign_webhook(signed_by, "msg1", now, b"{}"),
    }

    assert names["content"](signed_by[0], headers, b"{}") == {}
    with pytest.raises(WebhookVerificationError):
        names["content"](signed_by[0], headers, b"[]")


def test_every_signature_is_listed() -> None:
    listed = {name for row in rows(SIGNATURES) for name in named(row[0])}

    assert listed == {*Signature}
    assert f"0 to {MAX_OVERLAP_SECONDS:,}" in SIGNATURES


def test_every_format_is_listed_with_the_subscribers_that_can_have_it() -> None:
    listed = {named(row[0])[0]: row[2] for row in rows(section(PAGE, "## Formats"))}

    assert set(listed) == {*Format}
    for name, subscribers in listed.items():
        can = {word for word, kind in WORDS.items() if Format(name) in kind.forms.formats}
        assert can == (set(WORDS) if subscribers == "all" else set(subscribers.split(", ")))


def test_every_value_of_a_placeholder_is_listed() -> None:
    listed = {path for row in rows(section(PAGE, "## Placeholders")) for path in named(row[0])}

    assert {path.partition(".")[0] for path in listed} == set(ROOTS)
    of_fields = {f"{root}.{field}" for root, fields in FIELDS.items() for field in fields}
    assert of_fields == {path for path in listed if path.partition(".")[0] in FIELDS}


def test_limits_are_the_code_s() -> None:
    assert f"at most {MAX_PLACEHOLDERS} placeholders, and a path {MAX_STEPS} steps" in PAGE
    assert f"at most {FORM_GROWTH} times `ZAQAR_MAX_MESSAGES_POST_SIZE`" in PAGE
