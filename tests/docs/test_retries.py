"""The policies on the page about retries make the waits that it shows."""

from __future__ import annotations

import json
import re

from sinks.retry_after import NAMES
from tests.docs.pages import blocks, named, pages, prose, read, rows, section
from zaqar_notify.rules.retry import applicable_plan
from zaqar_notify.rules.retry_policy import (
    FINAL_STATUSES,
    IGNORE_OVERRIDE,
    JITTER,
    MAX_AGE,
    POLICY_KEY,
    parse_policy,
)
from zaqar_notify.rules.schedules import SNS_HTTP, delays, preset_schedule

PAGE = read("retries.md")
REMAINING = {name for name in NAMES if name.endswith(b"-remaining")}


def test_every_policy_waits_as_the_page_says() -> None:
    table = rows(section(PAGE, "## Three forms"))

    for _, example, waits in table:
        policy = json.loads(example.strip("`"))
        plan = applicable_plan(
            {POLICY_KEY: policy},
            {},
            named=lambda preset: preset_schedule(preset or "standard", sns=SNS_HTTP),
        )
        assert delays(plan.schedule) == [int(wait) for wait in waits.split(", ")], example
    assert len(table) > 5


def test_the_example_is_a_policy() -> None:
    (example,) = blocks(PAGE, "json")

    assert parse_policy(json.loads(example)).bounds.max_age == 86400


def test_every_policy_within_a_sentence_of_any_page_is_taken() -> None:
    texts = [
        text
        for page in pages()
        for text in re.findall(r"`(\{\s*\"_retry_policy\":[^`]+\})`", prose(page.read_text()))
    ]

    for text in texts:
        parse_policy(json.loads(text)[POLICY_KEY])
    assert texts


def test_every_option_is_listed_with_a_value_that_is_taken() -> None:
    listed = {
        named(option)[0]: json.loads(example.strip("`"))
        for option, example, _ in rows(section(PAGE, "## Options beside each form"))
    }

    assert set(listed) == {JITTER, FINAL_STATUSES, MAX_AGE, IGNORE_OVERRIDE}
    parse_policy(listed)


def test_every_header_that_asks_for_a_pause_is_listed() -> None:
    table = rows(section(PAGE, "## The receiver asks for a pause"))

    listed = {name.lower().encode() for row in table for name in named(row[0])}

    assert listed == NAMES - REMAINING
