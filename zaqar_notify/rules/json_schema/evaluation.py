"""A schema's nodes, and what a check of a value spends and finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

Value: TypeAlias = Any  # any JSON value

YIELD_STEPS = 256
"""A check in a thread lets others run after so many steps, a tenth of a millisecond."""


class TooManySteps(Exception):
    """The check would take longer than it may."""


class Steps:
    """The steps that a check may still take; each takes about 0.3 µs."""

    __slots__ = ("_left", "_yield_at", "_yields")

    def __init__(self, most: int, *, yields: bool = False) -> None:
        """`yields`: in a thread beside the event loop, which gets its turns then."""
        self._left = most
        self._yields = yields
        self._yield_at = most - YIELD_STEPS if yields else -1

    def spend(self, count: int = 1) -> None:
        """
        Raises:
            TooManySteps: There are not so many left.
        """
        self._left -= count
        if self._left <= self._yield_at:
            if self._left < 0:
                raise TooManySteps
            if self._yields:
                self._yield_at = self._left - YIELD_STEPS
                time.sleep(0)


class Fault:
    """A rule that a value breaks: the place of the value, innermost part first, and of the rule in the schema."""

    __slots__ = ("path", "rule")

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.path: list[str | int] = []

    def at(self, part: str | int) -> Fault:
        """The same fault, seen from the value that has the faulty one in this place."""
        self.path.append(part)
        return self


Check: TypeAlias = Callable[[Value, Steps], Fault | None]


class Node:
    """One schema. `checks` are its rules; the other fields are those of its rules that say which members of a value
    they look at."""

    __slots__ = (
        "all_of",
        "any_of",
        "checks",
        "contains",
        "dependent",
        "else_",
        "if_",
        "looks_at_all_items",
        "looks_at_all_members",
        "looks_at_other_items",
        "looks_at_other_members",
        "patterns",
        "pointer",
        "prefix",
        "properties",
        "then",
    )

    def __init__(self, pointer: str) -> None:
        self.pointer = pointer
        self.checks: list[Check] = []
        self.all_of: list[Node] = []
        """Of `allOf` and `$ref`: all hold for the value itself."""
        self.any_of: list[Node] = []
        """Of `anyOf` and `oneOf`: some hold."""
        self.if_: Node | None = None
        self.then: Node | None = None
        self.else_: Node | None = None
        self.dependent: Mapping[str, Node] = {}
        self.properties: Mapping[str, Node] = {}
        self.patterns: Sequence[tuple[Search, Node]] = ()
        self.looks_at_all_members = False
        self.looks_at_other_members = False
        """By `unevaluatedProperties`; likewise items."""
        self.prefix = 0
        self.contains: Node | None = None
        self.looks_at_all_items = False
        self.looks_at_other_items = False

    def check(self, value: Value, steps: Steps) -> Fault | None:
        steps.spend()
        for check in self.checks:
            fault = check(value, steps)
            if fault is not None:
                return fault
        return None

    def holds(self, value: Value, steps: Steps) -> bool:
        return self.check(value, steps) is None

    def applied(self, value: Value, steps: Steps) -> list[Node]:
        """This schema, and those in it that hold for the value: they have looked at its members."""
        steps.spend()
        found = [self]
        for node in self.all_of:
            found += node.applied(value, steps)
        for node in self.any_of:
            if node.holds(value, steps):
                found += node.applied(value, steps)
        if self.if_ is not None:
            holds = self.if_.holds(value, steps)
            chosen = (self.if_, self.then) if holds else (self.else_,)
            for each in chosen:
                found += [] if each is None else each.applied(value, steps)
        for name, node in self.dependent.items():
            if isinstance(value, dict) and name in value:
                found += node.applied(value, steps)
        return found


class Search:
    """A regular expression, found anywhere in a text in linear time."""

    __slots__ = ("_search", "_size")

    def __init__(self, search: Callable[[str], object], size: int) -> None:
        """`size` is that of its program: the time for a character is proportional to it at worst."""
        self._search = search
        self._size = size

    def finds(self, text: str, steps: Steps) -> bool:
        steps.spend(1 + len(text) * self._size // 100)
        return self._search(text) is not None


def canonical(value: Value, steps: Steps) -> str:
    """The same text for equal values, and another for others: 1 and 1.0 are equal, 1 and true are not."""
    steps.spend()
    if isinstance(value, str):
        steps.spend(len(value) // 64)
        return orjson.dumps(value).decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return f"[{','.join([canonical(item, steps) for item in value])}]"
    if isinstance(value, dict):
        members = [
            f"{canonical(name, steps)}:{canonical(one, steps)}" for name, one in value.items()
        ]
        return f"{{{','.join(sorted(members))}}}"
    return repr(value)
