"""Filter policies of subscriptions: which messages a subscriber gets, as in SNS.

A policy is an object of names, each with an array of conditions: all names must fit, and a name fits if one of its
conditions does. It is read once and then kept as functions. Names are those of a message's attributes, or with the
scope `MessageBody` those of keys in its body, which may be nested.

Source: Amazon SNS Developer Guide, "Message filtering" and "Filter policy constraints".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias, get_args

import msgspec
import orjson

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, NewMessage
from zaqar_notify.rules.attributes import NAME_RULE, is_name, read_attributes
from zaqar_notify.rules.filter_conditions import (
    OPERATORS,
    Condition,
    Fault,
    cost_of,
    one_of,
    read_operator,
)

FILTER_KEY = "_filter_policy"
SCOPE_KEY = "_filter_policy_scope"
FILTER_KEYS = (FILTER_KEY, SCOPE_KEY)

Scope: TypeAlias = Literal["MessageAttributes", "MessageBody"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MOST_NAMES = 5
MOST_COMBINATIONS = 150
MOST_BYTES = 16384
"""Of a policy as JSON. Some 256 of them are kept compiled, so this bounds the memory, too."""
MOST_TESTS = 10_000
"""Of values in arrays, times conditions, for one message. They take 20 ms at most, for which a worker does nothing else."""

Document: TypeAlias = Mapping[str, object]


class _Undecided(Exception):
    """A policy and a message are too large together: the message was not looked at to its end."""


class Budget:
    """The tests that one message may take of one policy."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST_TESTS

    def spend(self, tests: int) -> None:
        """Raise _Undecided once there are too many."""
        self._left -= tests
        if self._left < 0:
            raise _Undecided


Clause: TypeAlias = Callable[[Document, Budget], bool]


def _pass() -> None:
    """Ignore it."""


class FilterPolicy(msgspec.Struct, frozen=True):
    """A policy that was read; `clauses` have all to fit."""

    scope: Scope
    clauses: tuple[Clause, ...]

    def accepts(self, message: Candidate, *, undecided: Callable[[], None] = _pass) -> bool:
        """Whether the subscriber gets the message. A body that is no JSON object fits no policy on bodies.

        Args:
            undecided: Called when the message has arrays that are too long for the policy. The subscriber gets it then.
        """
        document = message.attributes if self.scope == "MessageAttributes" else message.body
        if document is None:
            return False
        budget = Budget()
        try:
            return all(clause(document, budget) for clause in self.clauses)
        except _Undecided:
            undecided()
            return True


class Candidate:
    """A message as policies see it. Each part is read once, when a policy asks for it."""

    def __init__(self, message: NewMessage) -> None:
        self._message = message

    @cached_property
    def attributes(self) -> Document:
        """The values by name; those of the type Binary are left out."""
        found = read_attributes(self._message.attributes)
        return {name: one.value for name, one in found.items() if one.type != "Binary"}

    @cached_property
    def body(self) -> Document | None:
        """The body, if it is an object."""
        try:
            body = orjson.loads(self._message.body)
        except orjson.JSONDecodeError:
            # It has a half of a character, which orjson refuses.
            body = json.loads(self._message.body)
        return body if isinstance(body, dict) else None


def filter_of(options: JsonObject) -> FilterPolicy | None:
    """The policy in a subscription's options; None: the subscriber gets every message.

    Raises:
        ValidationFailed: Names the key, the place in it, and what is allowed.
    """
    policy = options.get(FILTER_KEY)
    if policy is None and options.get(SCOPE_KEY) is None:
        return None
    return _read(orjson.dumps([policy, options.get(SCOPE_KEY)]))


@lru_cache(maxsize=256)
def _read(text: bytes) -> FilterPolicy | None:
    policy, scope = orjson.loads(text)
    if scope not in (None, *SCOPES):
        raise ValidationFailed(f"options: {SCOPE_KEY} must be {' or '.join(SCOPES)}")
    if policy is None or policy == {}:
        return None
    if not isinstance(policy, dict):
        raise ValidationFailed(f"options: {FILTER_KEY} must be an object")
    if len(text) > MOST_BYTES:
        raise ValidationFailed(
            f"options: {FILTER_KEY} has {len(text)} bytes as JSON; at most {MOST_BYTES} are allowed"
        )
    if len(policy) > MOST_NAMES:
        raise ValidationFailed(
            f"options: {FILTER_KEY} has {len(policy)} names; at most {MOST_NAMES} are allowed"
        )
    reader = _Reader(is_nested=scope == "MessageBody")
    clauses, combinations = reader.read(policy, depth=1, place="")
    if combinations > MOST_COMBINATIONS:
        raise ValidationFailed(
            f"options: {FILTER_KEY} has {combinations} combinations of values; at most {MOST_COMBINATIONS} are "
            "allowed: the numbers of values of all names, each times its depth, multiplied"
        )
    return FilterPolicy(scope or SCOPES[0], clauses)


class _Reader:
    """Makes clauses of a policy, and counts its combinations."""

    def __init__(self, *, is_nested: bool) -> None:
        self._is_nested = is_nested

    def read(self, policy: JsonObject, *, depth: int, place: str) -> tuple[tuple[Clause, ...], int]:
        clauses, combinations = [], 1
        for name, given in policy.items():
            clause, count = self._name(name, given, depth, f"{place}{name[:80]}")
            clauses.append(clause)
            combinations *= count
        return tuple(clauses), combinations

    def _name(self, name: str, given: object, depth: int, place: str) -> tuple[Clause, int]:
        if name == "$or" and (alternatives := _alternatives(given)):
            read = [self.read(each, depth=depth, place=f"{place}.") for each in alternatives]
            return _any([clauses for clauses, _ in read]), sum(count for _, count in read)
        if not self._is_nested and not is_name(name):
            raise _refused(
                place, f"can be no attribute of a message: the name of one must be {NAME_RULE}"
            )
        if isinstance(given, dict):
            if not self._is_nested:
                raise _refused(
                    place, f"must be an array; objects are for {SCOPE_KEY} MessageBody only"
                )
            if not given:
                raise _refused(place, "must have at least one key")
            clauses, count = self.read(given, depth=depth + 1, place=f"{place}.")
            return _nested(name, clauses), count
        if not isinstance(given, list) or not given:
            raise _refused(place, "must be an array of at least one condition")
        try:
            return _leaf(name, given), len(given) * depth
        except Fault as fault:
            raise _refused(place, str(fault)) from fault


def _refused(place: str, fault: str) -> ValidationFailed:
    return ValidationFailed(f"options: {FILTER_KEY}: {place} {fault}")


def _alternatives(given: object) -> Sequence[JsonObject]:
    """The policies of an `$or`. As in SNS, the name is an ordinary one if it has no two objects, or if operators stand
    in them."""
    if not isinstance(given, list) or len(given) < 2:
        return ()
    if not all(isinstance(each, dict) and each and not OPERATORS & set(each) for each in given):
        return ()
    return given


def _any(alternatives: Sequence[tuple[Clause, ...]]) -> Clause:
    return lambda document, budget: any(
        all(clause(document, budget) for clause in each) for each in alternatives
    )


def _nested(name: str, clauses: tuple[Clause, ...]) -> Clause:
    """Of an array, one object must fit all clauses; where there is no object, all names in it are absent."""

    def fits(document: Document, budget: Budget) -> bool:
        is_empty = True
        for each in _flat(document.get(name)):
            budget.spend(1)
            if isinstance(each, dict):
                is_empty = False
                if all(clause(each, budget) for clause in clauses):
                    return True
        return is_empty and all(clause({}, budget) for clause in clauses)

    return fits


def _leaf(name: str, given: Sequence[object]) -> Clause:
    """Of an array, one value must meet one condition."""
    exists, tests = list[bool](), list[Condition]()
    for each in given:
        if isinstance(each, dict) and list(each) == ["exists"]:
            exists.append(_read_exists(each["exists"]))
        elif isinstance(each, dict):
            tests.append(read_operator(each))
    if values := [each for each in given if not isinstance(each, dict)]:
        tests.insert(0, one_of(values))
    cost = cost_of(given)

    def fits(document: Document, budget: Budget) -> bool:
        is_there = name in document
        if is_there in exists:
            return True
        for value in _flat(document[name]) if is_there else ():
            budget.spend(cost.of(value))
            if not isinstance(value, dict) and any(test(value) for test in tests):
                return True
        return False

    return fits


def _read_exists(operand: object) -> bool:
    if not isinstance(operand, bool):
        raise Fault("must have true or false for exists")
    return operand


def _flat(value: object) -> Iterator[object]:
    """The value, or what is in the array and in the arrays in it."""
    if not isinstance(value, list):
        yield value
        return
    for each in value:
        yield from _flat(each)
