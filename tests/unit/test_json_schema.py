"""Schemas of strangers: they mean what JSON Schema says, and no check of them lasts."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from tests.schemas import random_schema, random_value
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.json_schema import Schema, TooManySteps, canonical_text, compiled
from zaqar_notify.rules.json_schema.schema import STEPS

SMALL = 2000


def schema_of(document: Any) -> Schema:
    return compiled(canonical_text(document))


def unfit(document: Any, value: Any) -> str | None:
    """The place and the reason of the first fault."""
    found = schema_of(document).unfit_slowly([orjson.dumps(value)])
    return None if found is None else f"{found[1].place} {found[1].reason}"


@pytest.mark.parametrize("seed", range(30))
def test_a_schema_takes_the_values_that_another_implementation_takes(seed: int) -> None:
    random = Random(seed)
    schemas = [random_schema(random) for _ in range(10)]

    for document in schemas:
        Draft202012Validator.check_schema(document)
        try:
            schema_of(document)
        except ValidationFailed as refusal:
            assert "without end" in str(refusal)  # noqa: PT017 - which ones are is the generator's
            continue
        other = Draft202012Validator(document)
        for value in [random_value(random) for _ in range(8)]:
            assert (unfit(document, value) is None) == other.is_valid(value), (document, value)


ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "mail": {"format": "email"},
        "items": {"items": {"properties": {"sku": {"pattern": "^[A-Z]{2}-[0-9]{4}$"}}}},
    },
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"id": 1, "mail": "ann@example.org", "items": [{"sku": "AB-1234"}]}, None),
        ({}, '$ breaks #/required: ["id"]'),
        ({"id": 0}, "$.id breaks #/properties/id/minimum: 1"),
        ({"id": True}, '$.id breaks #/properties/id/type: "integer"'),
        ({"id": 1, "mail": "ann"}, '$.mail breaks #/properties/mail/format: "email"'),
        (
            {"id": 1, "items": [{}, {"sku": "AB-12345"}]},
            '$.items[1].sku breaks #/properties/items/items/properties/sku/pattern: "^[A-Z]{2}-[0-9]{4}$"',
        ),
    ],
)
def test_a_refusal_names_the_place_and_the_rule(value: Any, said: str | None) -> None:
    assert unfit(ORDER, value) == said


@pytest.mark.parametrize(
    ("name", "fits", "others"),
    [
        ("date-time", "2026-11-30T18:05:00.5+01:00", ["2026-11-30", "2026-02-30T00:00:00Z", "x"]),
        ("date", "2028-02-29", ["2027-02-29", "28-02-29"]),
        ("time", "23:59:60Z", ["24:00:00Z", "23:59"]),
        ("email", "a.b@example.org", ["@example.org", "a b@example.org", "a@-x"]),
        ("hostname", "a-b.example", ["-a", "a..b", "x" * 64]),
        ("ipv4", "192.0.2.1", ["192.0.2.256", "1.2.3"]),
        ("ipv6", "2001:db8::1", ["2001:db8::1%eth0", ":::"]),
        ("uri", "https://example.org/a?b=%20#c", ["example.org", "http://a b", "a:%zz"]),
        ("uuid", "3381af92-2b9e-11e3-b191-71861300734c", ["3381af922b9e11e3b19171861300734c"]),
    ],
)
def test_formats_are_checked(name: str, fits: str, others: list[str]) -> None:
    assert unfit({"format": name}, fits) is None
    assert unfit({"format": name}, 5) is None
    assert all(unfit({"format": name}, other) for other in others)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (True, "must be a JSON Schema: an object"),
        ({"type": "text"}, "#/type must be one or several of"),
        ({"properties": {"a/b": 5}}, "#/properties/a~1b must be a schema"),
        ({"minimum": "1"}, "#/minimum must be a number"),
        ({"maxLength": -1}, "#/maxLength must be an integer"),
        ({"required": "id"}, "#/required must be an array of strings"),
        ({"allOf": []}, "#/allOf must be an array of at least one schema"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "another $schema"),
        ({"$ref": "https://example.org/order.json"}, "are not fetched"),
        ({"$ref": "#/$defs/order"}, "leads to a place that is not there"),
        ({"$ref": "#order"}, "names an anchor that is not there"),
        ({"items": {"$id": "order"}}, "has an $id"),
        ({"pattern": "(?=a)"}, "is no pattern that RE2 can use"),
        ({"pattern": r"(a)\1"}, "is no pattern that RE2 can use"),
        ({"pattern": "a" * 1001}, "at most 1000 characters"),
        ({"allOf": [{"pattern": f"a{number}"} for number in range(21)]}, "at most 20"),
        ({"allOf": [{"pattern": "[a-z]{1,1000}"}] * 4}, "a pattern too large"),
        ({"allOf": [{}] * 1001}, "one schema too many"),
        ({"$ref": "#"}, "refers to itself without end"),
        (
            {
                "properties": {
                    "a": {"not": {"$ref": "#/properties/b"}},
                    "b": {"if": {"$ref": "#/properties/a"}},
                }
            },
            "refers to itself without end",
        ),
    ],
)
def test_what_is_no_usable_schema_is_refused(document: Any, said: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        schema_of(document)

    assert said in str(refused.value)


def test_a_schema_is_not_nested_without_bound() -> None:
    document: Any = {}
    for _ in range(65):
        document = {"not": document}

    with pytest.raises(ValidationFailed, match="nested deeper than 64 levels"):
        schema_of(document)


def doubled(link: dict[str, Any]) -> dict[str, Any]:
    """A schema that asks about a value 2 to the power of 50 times."""
    chain = {f"n{n}": {"allOf": [{"$ref": f"#/$defs/n{n - 1}"}] * 2, **link} for n in range(1, 51)}
    return {"$defs": {"n0": True, **chain}, "$ref": "#/$defs/n50"}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


AGAIN = {"properties": {"a": {"$ref": "#"}}}

HOSTILE = {
    "references that double": (doubled({}), 1),
    "unevaluated members that double": (doubled({"unevaluatedProperties": True}), {"a": 1}),
    "alternatives that double with the depth": (
        {"type": ["object", "integer"], "oneOf": [AGAIN, {**AGAIN, "minProperties": 0}]},
        nested(100),
    ),
    "nested quantifiers": ({"pattern": "^(a+)+$"}, "a" * 250_000 + "!"),
    "a large automaton": ({"pattern": "(x+x+)+y|[a-z]{1,500}z"}, "x" * 250_000),
    "patterns for many names": (
        {"patternProperties": {f"(x+x+)+{end}": {} for end in "abcdefgh"}},
        {f"{'x' * 40}{number}": 1 for number in range(4000)},
    ),
    "a huge enum": ({"items": {"enum": [f"v{n}" for n in range(4000)]}}, ["v3999"] * 30_000),
    "many unique items": ({"uniqueItems": True}, [{"a": n} for n in range(20_000)]),
    "divisions of large numbers": ({"items": {"multipleOf": 1e-300}}, [1e308] * 10_000),
    "lists in lists": (
        {"contains": {"contains": {"contains": {"const": 3}}}},
        [[[1] * 40] * 40] * 40,
    ),
    "names that others ask for": (
        {"items": {"dependentRequired": {f"k{n}": ["a"] for n in range(2000)}}},
        [{} for _ in range(60_000)],
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_or_value_takes_the_event_loop_no_time(name: str) -> None:
    document, value = HOSTILE[name]

    # Steps are counted, so that this fails on no busy machine: without a count it would last for hours.
    with pytest.raises(TooManySteps):
        schema_of(document).unfit_soon([orjson.dumps(value)])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_or_value_has_an_answer_in_a_thread(name: str) -> None:
    document, value = HOSTILE[name]

    said = unfit(document, value)

    assert said is None or "steps to be checked" in said or "breaks" in said


def test_a_message_may_take_more_steps_the_longer_it_is() -> None:
    ints = {"items": {"type": "integer"}}
    long = list(range(10 * STEPS // 2))

    assert unfit(ints, long) is None
    assert unfit(doubled({}), 1) == f"$ takes more than {STEPS + 1} steps to be checked"
