"""Conditions of a filter policy on one value: a string, a number, true, false or null.

A condition of a wrong type of value is not met, and is no error: a string has no numeric value, and a number no
prefix. Numbers are compared after rounding to `DECIMALS` digits behind the point.

Source: Amazon SNS Developer Guide, "String value matching" and "Numeric value matching".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple, TypeAlias

Condition: TypeAlias = Callable[[object], bool]

DECIMALS = 5
_STEPS = 100_000
"""Of the smallest size, in 1."""
MOST_NUMBER = 1_000_000_000
MOST_WILDCARDS = 3
"""In one pattern."""

_BLOCK_CHARACTERS = 1024
_LONGEST_ADDRESS = 64
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PIECES = re.compile(r"[^\\*]+|\\[\\*]|\*")


class Fault(ValueError):
    """The end of a sentence about a part of a policy."""


def one_of(given: Sequence[object]) -> Condition:
    """The condition that a value is one of these, which a policy's array has beside its operators.

    Raises:
        Fault: One is no string, number, boolean or null.
    """
    wanted = frozenset(_comparable(_checked(each)) for each in given)
    return lambda value: _comparable(value) in wanted


def read_operator(given: Mapping[str, object]) -> Condition:
    """The condition that an object in a policy's array stands for; `exists` is not among them.

    Raises:
        Fault: It stands for none.
    """
    if len(given) != 1:
        raise Fault(f"must have one operator in each object, not {len(given)}")
    [(name, operand)] = given.items()
    read = _READERS.get(name)
    if read is None:
        known = ", ".join(("exists", *_READERS))
        raise Fault(f"has the operator {name[:40]!r}; there are {known}")
    return read(operand)


class Cost(NamedTuple):
    """The work that an array of conditions takes for one value, in tests."""

    of_all: int
    """For any value."""
    of_blocks: int
    """Once more for each further block of a long string, which these conditions read to its end."""

    def of(self, value: object) -> int:
        blocks = len(value) // _BLOCK_CHARACTERS if isinstance(value, str) else 0
        return self.of_all + self.of_blocks * blocks


def cost_of(given: Sequence[object]) -> Cost:
    """The cost of a policy's array that was read. Single values are one test together, an `anything-but` with an array
    of strings is as many as it has."""
    operators = [each for each in given if isinstance(each, dict)]
    tests = [test for each in operators for test in _tests_in(each)]
    is_any_value = len(operators) < len(given)
    return Cost(len(tests) + is_any_value, tests.count("wildcard"))


def _tests_in(given: Mapping[str, object]) -> Sequence[str]:
    """The operators' names, each as often as it is tried. `exists` looks at no value."""
    [(name, operand)] = given.items()
    if name == "exists":
        return ()
    if name == "anything-but" and isinstance(operand, dict):
        [(name, operand)] = operand.items()
        return [name] * (len(operand) if isinstance(operand, list) else 1)
    return [name]


def _checked(value: object) -> object:
    """The value, if a policy may have it."""
    if _is_number(value):
        _policy_number(value)
    elif not (value is None or isinstance(value, str | bool)):
        raise Fault("must have strings, numbers, true, false, null or operators in its array")
    return value


def _comparable(value: object) -> object:
    """The value, in a form that is equal for equal values only: to Python, 1 is `True`."""
    return (_scaled(value),) if _is_number(value) else value


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _scaled(number: object) -> int:
    """The number as a multiple of its smallest step."""
    if isinstance(number, int):
        return number * _STEPS
    return _scaled_text(repr(number))


@lru_cache(maxsize=256)
def _scaled_text(number: str) -> int:
    """Remembered, because all conditions of a policy see the same value."""
    return round(Decimal(number) * _STEPS)


def _policy_number(value: object) -> int:
    if not _is_number(value) or not isinstance(value, int | float):
        raise Fault("must compare with numbers")
    if not -MOST_NUMBER <= value <= MOST_NUMBER:
        raise Fault(f"must have numbers from -{MOST_NUMBER} to {MOST_NUMBER}, not {value}")
    scaled = _scaled(value)
    if Decimal(repr(value)) * _STEPS != scaled:
        raise Fault(f"must have numbers of at most {DECIMALS} digits behind the point, not {value}")
    return scaled


def _numeric(operand: object) -> Condition:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise Fault('must have one or two comparisons in numeric: ["=", 1], [">", 0, "<=", 9]')
    comparisons = list(zip(operand[::2], map(_policy_number, operand[1::2]), strict=True))
    for name, _ in comparisons:
        if not isinstance(name, str) or name not in _COMPARISONS:
            raise Fault(
                f"compares by {str(name)[:40]!r} in numeric; there are {' '.join(_COMPARISONS)}"
            )
    if len(comparisons) == 2:
        _check_range(*comparisons)
    tests = [(_COMPARISONS[name], number) for name, number in comparisons]

    def fits(value: object) -> bool:
        if not _is_number(value):
            return False
        scaled = _scaled(value)
        return all(test(scaled, number) for test, number in tests)

    return fits


def _check_range(lower: tuple[str, int], upper: tuple[str, int]) -> None:
    if lower[0] not in (">", ">=") or upper[0] not in ("<", "<=") or lower[1] >= upper[1]:
        raise Fault("must have the lower bound, > or >=, before a greater one, < or <=, in numeric")


def _text(operand: object, name: str) -> str:
    if not isinstance(operand, str):
        raise Fault(f"must have a string for {name}")
    return operand


def _texts(operand: object, name: str) -> Sequence[str]:
    """One string or several."""
    given = operand if isinstance(operand, list) else [operand]
    if not given:
        raise Fault(f"must have at least one string for {name}")
    return [_text(each, name) for each in given]


def _prefix(operand: object) -> Condition:
    start = _text(operand, "prefix")
    return lambda value: isinstance(value, str) and value.startswith(start)


def _suffix(operand: object) -> Condition:
    end = _text(operand, "suffix")
    return lambda value: isinstance(value, str) and value.endswith(end)


def _ignoring_case(operand: object) -> Condition:
    wanted = _text(operand, "equals-ignore-case").casefold()
    # Folding shortens no text, so one that is longer is another one.
    return lambda value: (
        isinstance(value, str) and len(value) <= len(wanted) and value.casefold() == wanted
    )


def _cidr(operand: object) -> Condition:
    text = _text(operand, "cidr")
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise Fault(f"must have an address block for cidr, not {text[:80]!r}") from error
    if "/" not in text:
        raise Fault("must have a block with a length for cidr: 10.0.0.0/24")

    def fits(value: object) -> bool:
        if not isinstance(value, str) or len(value) > _LONGEST_ADDRESS:
            return False
        address = _address(value)
        return address is not None and address in network

    return fits


@lru_cache(maxsize=256)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Remembered, because all conditions of a policy see the same value."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def _wildcard(operand: object) -> Condition:
    """`*` stands for any characters, none too; `\\*` and `\\\\` stand for `*` and `\\`."""
    pattern = _text(operand, "wildcard")
    pieces = _PIECES.findall(pattern)
    if "".join(pieces) != pattern:
        raise Fault(r"must have only \* and \\ as escapes in wildcard")
    if "**" in "".join(piece if piece == "*" else "." for piece in pieces):
        raise Fault("must not have two * side by side in wildcard")
    if pieces.count("*") > MOST_WILDCARDS:
        raise Fault(f"must have at most {MOST_WILDCARDS} * in a wildcard")
    literals = [""]
    for piece in pieces:
        if piece == "*":
            literals.append("")
        else:
            literals[-1] += piece.removeprefix("\\")
    return lambda value: isinstance(value, str) and _is_like(value, literals)


def _is_like(text: str, literals: Sequence[str]) -> bool:
    """Whether the text is made of these literals in order, with any characters between them."""
    if len(literals) == 1:
        return text == literals[0]
    first, *middle, last = literals
    if not text.startswith(first):
        return False
    at = len(first)
    for literal in middle:
        found = text.find(literal, at)
        if found < 0:
            return False
        at = found + len(literal)
    return len(text) - at >= len(last) and text.endswith(last)


def _anything_but(operand: object) -> Condition:
    """Any value but these strings and numbers, or but strings that are like these."""
    if isinstance(operand, dict):
        excluded = _like_any(operand)
        return lambda value: not excluded(value)
    given = operand if isinstance(operand, list) else [operand]
    if not given or not all(isinstance(each, str) or _is_number(each) for each in given):
        raise Fault("must have strings and numbers in anything-but")
    values = frozenset(_comparable(_checked(each)) for each in given)
    return lambda value: _comparable(value) not in values


def _like_any(operand: Mapping[str, object]) -> Condition:
    name = next(iter(operand), "")
    if len(operand) != 1 or name not in _EXCLUDING:
        raise Fault(f"must have one of {', '.join(_EXCLUDING)} in an object for anything-but")
    tests = [_EXCLUDING[name](each) for each in _texts(operand[name], name)]
    return lambda value: any(test(value) for test in tests)


_EXCLUDING: Mapping[str, Callable[[object], Condition]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignoring_case,
    "wildcard": _wildcard,
}
_READERS: Mapping[str, Callable[[object], Condition]] = {
    **_EXCLUDING,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
}
OPERATORS = frozenset(("exists", *_READERS))
