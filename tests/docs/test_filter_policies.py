"""The page of filter policies: its tour works, and its policies are permitted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import blocks, read, rows, section
from tests.docs.tour import assert_every_block_is_run, play
from zaqar_notify.rules import attributes, filter_conditions, filter_policy
from zaqar_notify.rules.filter_policy import filter_of

PAGE = read("filter-policies.md")


def test_the_tour_prints_what_the_page_shows(tmp_path: Path) -> None:
    assert_every_block_is_run(PAGE)
    play(PAGE, tmp_path)


def policies() -> list[dict[str, Any]]:
    """The options with a policy, from the page's JSON; a policy alone stands for its options."""
    found = [json.loads(block) for block in blocks(PAGE, "json")]
    options = [each.get("options", each) for each in found if "messages" not in each]
    return [each if "_filter_policy" in each else {"_filter_policy": each} for each in options]


def test_every_policy_of_the_page_is_permitted() -> None:
    assert len(policies()) == 3
    for options in policies():
        assert filter_of(options) is not None


CONDITIONS = [
    condition
    for row in rows(section(PAGE, "## Policies"))
    for condition in re.findall(r"`([^`]+)`", row[0])
    if condition not in filter_conditions.OPERATORS
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_of_the_table_is_permitted(condition: str) -> None:
    assert filter_of({"_filter_policy": {"a": [json.loads(condition)]}}) is not None


def test_the_table_has_every_operator() -> None:
    named = {word for condition in CONDITIONS for word in re.findall(r'{"([a-z-]+)":', condition)}

    assert named == filter_conditions.OPERATORS


def test_limits_are_those_of_the_code() -> None:
    limits = {row[0]: row[1] for row in rows(section(PAGE, "## Limits"))}

    def number(name: str) -> int:
        return int(re.findall(r"[\d,]+", limits[name])[0].replace(",", ""))

    assert number("names") == filter_policy.MOST_NAMES
    assert number("combinations") == filter_policy.MOST_COMBINATIONS
    assert number("`*` in a `wildcard`") == filter_conditions.MOST_WILDCARDS
    assert number("the policy as JSON") == filter_policy.MOST_BYTES
    assert number("tests of one message") == filter_policy.MOST_TESTS
    of_attributes = section(PAGE, "## Attributes")
    assert f"at most {attributes.MOST_ATTRIBUTES} attributes" in of_attributes
    assert f"at most {attributes.MOST_BYTES:,} bytes" in of_attributes
