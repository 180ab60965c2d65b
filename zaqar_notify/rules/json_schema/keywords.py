"""The keywords of JSON Schema 2020-12 that are rules: for each, how its check is made. Cheap ones come first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from zaqar_notify.rules.json_schema.compilation import Place
from zaqar_notify.rules.json_schema.evaluation import Check, Fault, Node, Steps, Value, canonical
from zaqar_notify.rules.json_schema.formats import FORMATS

Build: TypeAlias = Callable[[Place], Check | None]

DIVISION_STEPS = FORMAT_STEPS = 20
ENDLESS = 1 << 40
"""Steps for what is made of a schema, whose size is bounded."""


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Value) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


TYPES: Mapping[str, Callable[[Value], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _type(place: Place) -> Check:
    names = [place.value] if isinstance(place.value, str) else place.names()
    if not names or any(name not in TYPES for name in names):
        raise place.refused(f"must be one or several of {', '.join(TYPES)}")
    tests = [TYPES[name] for name in dict.fromkeys(names)]
    return _rule(place, lambda value: any(test(value) for test in tests))


def _rule(place: Place, test: Callable[[Value], bool]) -> Check:
    return lambda value, _: None if test(value) else place.fault()


def _of(place: Place, kind: str, test: Callable[[Any], bool]) -> Check:
    """A rule for values of one type; others keep it."""
    is_kind = TYPES[kind]
    return _rule(place, lambda value: not is_kind(value) or test(value))


def _enum(place: Place) -> Check:
    if not isinstance(place.value, list):
        raise place.refused("must be an array")
    known = {canonical(one, Steps(ENDLESS)) for one in place.value}
    return lambda value, steps: None if canonical(value, steps) in known else place.fault()


def _const(place: Place) -> Check:
    known = canonical(place.value, Steps(ENDLESS))
    return lambda value, steps: None if canonical(value, steps) == known else place.fault()


# Numbers and strings.


def _limit(holds: Callable[[Any, Any], bool]) -> Build:
    def build(place: Place) -> Check:
        limit = place.number()
        return _of(place, "number", lambda value: holds(value, limit))

    return build


def _multiple_of(place: Place) -> Check:
    if place.number() <= 0:
        raise place.refused("must be more than 0")
    divisor = Fraction(str(place.value))

    def check(value: Value, steps: Steps) -> Fault | None:
        if not _is_number(value):
            return None
        steps.spend(DIVISION_STEPS)
        return None if Fraction(str(value)) % divisor == 0 else place.fault()

    return check


def _size(kind: str, *, most: bool) -> Build:
    def build(place: Place) -> Check:
        limit = place.count()
        if most:
            return _of(place, kind, lambda value: len(value) <= limit)
        return _of(place, kind, lambda value: len(value) >= limit)

    return build


def _pattern(place: Place) -> Check:
    search = place.search(place.value)

    def check(value: Value, steps: Steps) -> Fault | None:
        return None if not isinstance(value, str) or search.finds(value, steps) else place.fault()

    return check


def _format(place: Place) -> Check | None:
    if not isinstance(place.value, str):
        raise place.refused("must be a string")
    test = FORMATS.get(place.value)
    if test is None:
        return None

    def check(value: Value, steps: Steps) -> Fault | None:
        if not isinstance(value, str):
            return None
        steps.spend(FORMAT_STEPS + len(value) // 16)
        return None if test(value) else place.fault()

    return check


# Arrays.


def _unique_items(place: Place) -> Check | None:
    if not isinstance(place.value, bool):
        raise place.refused("must be true or false")
    if not place.value:
        return None

    def check(value: Value, steps: Steps) -> Fault | None:
        if isinstance(value, list) and len({canonical(one, steps) for one in value}) < len(value):
            return place.fault()
        return None

    return check


def _prefix_items(place: Place) -> Check:
    place.check_schemas()
    nodes = [place.sub(index) for index in range(len(place.value))]
    place.node.prefix = len(nodes)

    def check(value: Value, steps: Steps) -> Fault | None:
        for index, (one, node) in enumerate(
            zip(value if isinstance(value, list) else (), nodes, strict=False)
        ):
            if fault := node.check(one, steps):
                return fault.at(index)
        return None

    return check


def _items(place: Place) -> Check:
    node = place.sub()
    first = len(place.other("prefixItems") or ())
    place.node.looks_at_all_items = True

    def check(value: Value, steps: Steps) -> Fault | None:
        for index in range(first, len(value) if isinstance(value, list) else 0):
            if fault := node.check(value[index], steps):
                return fault.at(index)
        return None

    return check


def _contains(place: Place) -> Check:
    node = place.node.contains = place.sub()
    least, most = place.other("minContains"), place.other("maxContains")
    least = 1 if least is None else least

    def check(value: Value, steps: Steps) -> Fault | None:
        if not isinstance(value, list):
            return None
        found = sum(node.holds(one, steps) for one in value)
        return None if found >= least and (most is None or found <= most) else place.fault()

    return check


def _unevaluated_items(place: Place) -> Check:
    node, of = place.sub(), place.node
    of.looks_at_other_items = True

    def check(value: Value, steps: Steps) -> Fault | None:
        if not isinstance(value, list):
            return None
        looking = of.applied(value, steps)
        if any(
            each.looks_at_all_items or (each.looks_at_other_items and each is not of)
            for each in looking
        ):
            return None
        first = max(each.prefix for each in looking)
        contained = [each.contains for each in looking if each.contains is not None]
        for index in range(first, len(value)):
            if any(each.holds(value[index], steps) for each in contained):
                continue
            if fault := node.check(value[index], steps):
                return fault.at(index)
        return None

    return check


# Objects.


def _required(place: Place) -> Check:
    names = place.names()
    return _of(place, "object", lambda value: all(name in value for name in names))


def _dependent_required(place: Place) -> Check:
    if not isinstance(place.value, dict):
        raise place.refused("must be an object of arrays of strings")
    asked = {name: place.names(others) for name, others in place.value.items()}

    def test(value: Mapping[str, Value]) -> bool:
        return all(other in value for name in _common(asked, value) for other in asked[name])

    return _of(place, "object", test)


def _common(one: Mapping[str, object], other: Mapping[str, object]) -> Iterator[str]:
    """The names that both have; the fewer of both are gone through."""
    fewer, more = (one, other) if len(one) < len(other) else (other, one)
    return (name for name in fewer if name in more)


def _properties(place: Place) -> Check:
    nodes = place.node.properties = place.subs()

    def check(value: Value, steps: Steps) -> Fault | None:
        if not isinstance(value, dict):
            return None
        for name in _common(nodes, value):
            if fault := nodes[name].check(value[name], steps):
                return fault.at(name)
        return None

    return check


def _pattern_properties(place: Place) -> Check:
    searches = [(place.search(pattern), node) for pattern, node in place.subs().items()]
    place.node.patterns = searches

    def check(value: Value, steps: Steps) -> Fault | None:
        for name, one in value.items() if isinstance(value, dict) else ():
            for search, node in searches:
                if search.finds(name, steps) and (fault := node.check(one, steps)):
                    return fault.at(name)
        return None

    return check


def _additional_properties(place: Place) -> Check:
    node, of = place.sub(), place.node

    def check(value: Value, steps: Steps) -> Fault | None:
        for name, one in value.items() if isinstance(value, dict) else ():
            if not _looks_at(of, name, steps) and (fault := node.check(one, steps)):
                return fault.at(name)
        return None

    # Its own check comes after those of the members that it leaves to others.
    of.looks_at_all_members = True
    return check


def _unevaluated_properties(place: Place) -> Check:
    node, of = place.sub(), place.node
    of.looks_at_other_members = True

    def check(value: Value, steps: Steps) -> Fault | None:
        if not isinstance(value, dict):
            return None
        looking = of.applied(value, steps)
        if any(
            each.looks_at_all_members or (each.looks_at_other_members and each is not of)
            for each in looking
        ):
            return None
        for name, one in value.items():
            if any(_looks_at(each, name, steps) for each in looking):
                continue
            if fault := node.check(one, steps):
                return fault.at(name)
        return None

    return check


def _looks_at(node: Node, name: str, steps: Steps) -> bool:
    steps.spend()
    return name in node.properties or any(search.finds(name, steps) for search, _ in node.patterns)


def _property_names(place: Place) -> Check:
    node = place.sub()

    def check(value: Value, steps: Steps) -> Fault | None:
        for name in value if isinstance(value, dict) else ():
            if fault := node.check(name, steps):
                return fault.at(name)
        return None

    return check


# Schemas about the same value.


def _ref(place: Place) -> Check:
    node = place.target()
    place.node.all_of.append(node)
    return node.check


def _all_of(place: Place) -> Check:
    nodes = place.sames()
    place.node.all_of += nodes

    def check(value: Value, steps: Steps) -> Fault | None:
        for node in nodes:
            if fault := node.check(value, steps):
                return fault
        return None

    return check


def _some_of(*, one_only: bool) -> Build:
    def build(place: Place) -> Check:
        nodes = place.sames()
        place.node.any_of += nodes

        def check(value: Value, steps: Steps) -> Fault | None:
            found = 0
            for node in nodes:
                found += node.holds(value, steps)
                if found and not one_only:
                    return None
                if found > 1:
                    break
            return None if found == 1 else place.fault()

        return check

    return build


def _not(place: Place) -> Check:
    node = place.same()
    return lambda value, steps: place.fault() if node.holds(value, steps) else None


def _if(place: Place) -> Check:
    of = place.node
    condition = of.if_ = place.same()

    def check(value: Value, steps: Steps) -> Fault | None:
        chosen = of.then if condition.holds(value, steps) else of.else_
        return None if chosen is None else chosen.check(value, steps)

    return check


def _then(place: Place) -> None:
    if place.other("if") is not None:
        place.node.then = place.same()


def _else(place: Place) -> None:
    if place.other("if") is not None:
        place.node.else_ = place.same()


def _dependent_schemas(place: Place) -> Check:
    place.subs()
    nodes = place.node.dependent = {name: place.same(name) for name in place.value}

    def check(value: Value, steps: Steps) -> Fault | None:
        for name in _common(nodes, value) if isinstance(value, dict) else ():
            if fault := nodes[name].check(value, steps):
                return fault
        return None

    return check


def _defs(place: Place) -> None:
    place.subs()


def _counted(place: Place) -> None:
    place.count()


KEYWORDS: Mapping[str, Build] = {
    "$defs": _defs,
    "minContains": _counted,
    "maxContains": _counted,
    "then": _then,
    "else": _else,
    "type": _type,
    "const": _const,
    "enum": _enum,
    "maximum": _limit(lambda value, limit: value <= limit),
    "exclusiveMaximum": _limit(lambda value, limit: value < limit),
    "minimum": _limit(lambda value, limit: value >= limit),
    "exclusiveMinimum": _limit(lambda value, limit: value > limit),
    "multipleOf": _multiple_of,
    "maxLength": _size("string", most=True),
    "minLength": _size("string", most=False),
    "maxItems": _size("array", most=True),
    "minItems": _size("array", most=False),
    "maxProperties": _size("object", most=True),
    "minProperties": _size("object", most=False),
    "required": _required,
    "dependentRequired": _dependent_required,
    "format": _format,
    "pattern": _pattern,
    "uniqueItems": _unique_items,
    "propertyNames": _property_names,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "prefixItems": _prefix_items,
    "items": _items,
    "contains": _contains,
    "$ref": _ref,
    "$dynamicRef": _ref,
    "allOf": _all_of,
    "anyOf": _some_of(one_only=False),
    "oneOf": _some_of(one_only=True),
    "not": _not,
    "if": _if,
    "dependentSchemas": _dependent_schemas,
    "unevaluatedItems": _unevaluated_items,
    "unevaluatedProperties": _unevaluated_properties,
}
