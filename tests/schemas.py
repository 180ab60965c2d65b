"""Random schemas and values, small enough to meet each other's rules often."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

DEFINITIONS = {
    "x": {"type": "integer"},
    "y": {"type": "object", "properties": {"a": {"$ref": "#"}}},
    "z": {"$anchor": "named", "type": ["string", "array"]},
}
TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"]
SCALARS = [0, 1, 2, 3, -1, 1.0, 2.5, 0.1, "", "a", "ab", "abc", "b", True, False, None]


def random_value(random: Random, depth: int = 0) -> Any:
    if depth > 2 or random.random() < 0.6:
        return random.choice(SCALARS)
    size = random.randrange(4)
    if random.random() < 0.5:
        return [random_value(random, depth + 1) for _ in range(size)]
    return {random.choice("abcd"): random_value(random, depth + 1) for _ in range(size)}


def random_schema(random: Random) -> dict[str, Any]:
    return {**_keywords(random, 0), "$defs": DEFINITIONS}


def _schema(random: Random, depth: int) -> Any:
    if depth > 3 or random.random() < 0.1:
        return random.choice([True, False, {}, {"type": "integer"}, {"type": ["string", "null"]}])
    return _keywords(random, depth)


def _keywords(random: Random, depth: int) -> dict[str, Any]:
    def one() -> Any:
        return _schema(random, depth + 1)

    def some() -> list[Any]:
        return [one() for _ in range(random.randrange(1, 3))]

    makers: dict[str, Callable[[], Any]] = {
        "type": lambda: random.choice([*TYPES, random.sample(TYPES, 2)]),
        "enum": lambda: [random_value(random) for _ in range(3)],
        "const": lambda: random_value(random),
        "multipleOf": lambda: random.choice([1, 2, 0.1, 0.5]),
        "maximum": lambda: 2,
        "minimum": lambda: 1,
        "exclusiveMinimum": lambda: 1,
        "exclusiveMaximum": lambda: 2,
        "maxLength": lambda: 2,
        "minLength": lambda: 1,
        "pattern": lambda: random.choice(["^a", "b$", "a+b"]),
        "maxItems": lambda: 2,
        "minItems": lambda: 1,
        "uniqueItems": lambda: True,
        "maxProperties": lambda: 2,
        "minProperties": lambda: 1,
        "required": lambda: [random.choice("abcd")],
        "dependentRequired": lambda: {"a": ["b"]},
        "properties": lambda: {name: one() for name in random.sample("abcd", 2)},
        "patternProperties": lambda: {"^[ab]": one()},
        "additionalProperties": one,
        "propertyNames": one,
        "prefixItems": some,
        "items": one,
        "contains": one,
        "minContains": lambda: random.randrange(3),
        "maxContains": lambda: 2,
        "allOf": some,
        "anyOf": some,
        "oneOf": some,
        "not": one,
        "if": one,
        "then": one,
        "else": one,
        "dependentSchemas": lambda: {"a": one()},
        "unevaluatedItems": one,
        "unevaluatedProperties": one,
        "$ref": lambda: random.choice(["#/$defs/x", "#/$defs/y", "#named"]),
    }
    chosen = random.sample(sorted(makers), random.randrange(1, 4))
    return {keyword: makers[keyword]() for keyword in chosen}
