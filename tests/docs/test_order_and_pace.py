"""The options on the page about order and pace are taken."""

from __future__ import annotations

import json

from tests.docs.pages import blocks, named, read, rows
from zaqar_notify.rules.pacing import PACE_KEYS, pace_of

PAGE = read("order-and-pace.md")


def test_every_option_is_shown_with_a_value_that_is_taken() -> None:
    table = [row for row in rows(PAGE) if len(row) == 3]

    shown = set()
    for option, example, _ in table:
        [name] = named(option)
        shown.add(name)
        assert pace_of({name: json.loads(example.strip("`"))}) is not None, example

    assert shown == PACE_KEYS


def test_the_examples_are_options_and_a_batch() -> None:
    options, batch = (json.loads(block) for block in blocks(PAGE, "json"))

    assert pace_of(options) is not None
    assert [each["Message_Type"] for each in batch] == ["Notification"] * 2
