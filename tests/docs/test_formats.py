"""The pages about formats and signatures: their examples work as written, and their numbers are the code's."""

from __future__ import annotations

from pathlib import Path

from sinks.email import MailKind
from sinks.queue import QueueKind
from sinks.webhook import WebhookKind
from tests.docs.pages import named, read, rows, section
from tests.docs.tour import assert_every_block_is_run, play
from zaqar_notify.delivery.forms import FORM_GROWTH
from zaqar_notify.rules.formats import Format
from zaqar_notify.rules.placeholders import FIELDS, MAX_STEPS, ROOTS
from zaqar_notify.rules.templates import MAX_PLACEHOLDERS

PAGE = read("formats.md")
WORDS = {"webhooks": WebhookKind, "mail": MailKind, "queues": QueueKind}


def test_the_examples_print_what_the_page_shows(tmp_path: Path) -> None:
    assert_every_block_is_run(PAGE)
    play(PAGE, tmp_path)


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
