"""docs/schemas.md: its example does what the page says, and its numbers are those of the code."""

from __future__ import annotations

import json

import orjson

from tests.docs.pages import blocks, read
from zaqar_notify.metadata import MESSAGE_SCHEMA
from zaqar_notify.rules.json_schema import MAX_SCHEMA_BYTES, canonical_text, compiled
from zaqar_notify.rules.json_schema.compilation import (
    MAX_DEPTH,
    MAX_PATTERN_CHARACTERS,
    MAX_PATTERN_SIZE,
    MAX_PATTERNS,
    MAX_SUBSCHEMAS,
)
from zaqar_notify.rules.json_schema.formats import FORMATS
from zaqar_notify.rules.json_schema.schema import STEPS, STEPS_AT_ONCE

PAGE = read("schemas.md")


def test_the_example_refuses_its_post_with_the_sentence_of_the_page() -> None:
    metadata, post = map(json.loads, blocks(PAGE, "json"))
    [sentence] = blocks(PAGE, "text")
    schema = compiled(canonical_text(metadata[MESSAGE_SCHEMA]))

    found = schema.unfit_slowly([orjson.dumps(one["body"]) for one in post["messages"]])

    assert found is not None
    assert sentence.strip().endswith(f": {found[1].place} {found[1].reason}")
    assert sentence.startswith(f"messages[{found[0]}] does not fit")


def test_its_numbers_and_formats_are_those_of_the_code() -> None:
    numbers = (
        f"{MAX_SCHEMA_BYTES:,} bytes of JSON, {MAX_SUBSCHEMAS:,} schemas in it, {MAX_DEPTH} levels",
        f"{MAX_PATTERNS} patterns of {MAX_PATTERN_CHARACTERS:,} characters, with {MAX_PATTERN_SIZE:,} instructions",
        f"at most {STEPS:,} steps",
        f"more than {STEPS_AT_ONCE:,}\nsteps",
    )

    assert [number for number in numbers if number not in PAGE] == []
    assert [name for name in FORMATS if f"`{name}`" not in PAGE] == []
