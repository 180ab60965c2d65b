"""Checks of policy files: oslo.policy parses them, and they become functions.

oslo.policy's own evaluation inspects the signature of each check anew, which would cost a request a tenth of a
millisecond and more.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple, TypeAlias, cast

from oslo_policy import policy

from zaqar_notify.auth.callers import Caller
from zaqar_notify.auth.policies import Target, openstack_roles
from zaqar_notify.errors import StartRefused

# It logs a traceback for text that it can't parse, and goes on with a check that refuses everybody.
logging.getLogger("oslo_policy").setLevel(logging.CRITICAL + 1)

Text: TypeAlias = str | list[str | list[str]]
"""A check as a file has it; the list is the form of old files."""

MAX_DEPTH = 50
"""Levels of `not` and brackets in a check."""

_IS_ADMIN = "context_is_admin"
_CALLER: Mapping[str, Callable[[Caller], str | None]] = {
    "project_id": lambda caller: caller.project,
    "project": lambda caller: caller.project,
    "tenant": lambda caller: caller.project,
    "user_id": lambda caller: caller.user,
    "user": lambda caller: caller.user,
}
"""The attributes of a caller that a check may compare, beside `role`, `rule` and `is_admin`."""
_PLACEHOLDER = re.compile(r"%\(([^)]*)\)s")


class Asked(NamedTuple):
    """The question that a check answers."""

    caller: Caller
    roles: frozenset[str]
    target: Mapping[str, str]


Check: TypeAlias = Callable[[Asked], bool]


def asked(caller: Caller, target: Target) -> Asked:
    about = {"project_id": target.project_id}
    if target.queue_name is not None:
        about["queue_name"] = target.queue_name
    return Asked(caller, openstack_roles(caller.how, caller.roles), about)


class Checks:
    """The checks of rules by name, as functions.

    Raises:
        StartRefused: A text is no check, or a rule refers to one that is not there or to itself. The sentence
            begins with the rule's name.
    """

    def __init__(self, texts: Mapping[str, Text]) -> None:
        self._parsed = {name: _parsed(name, text) for name, text in texts.items()}
        references = {name: _references(check) for name, check in self._parsed.items()}
        for name, others in references.items():
            for missing in others - texts.keys():
                raise StartRefused(f'"{name}" refers to the rule "{missing}", which is not there')
        try:
            order = [*TopologicalSorter(references).static_order()]
        except CycleError as error:
            circle = " to ".join(f'"{name}"' for name in error.args[1])
            raise StartRefused(f"{circle}: these rules refer to each other in a circle") from None
        self._checks: dict[str, Check] = {}
        self._behind: dict[str, frozenset[str]] = {}
        for name in order:
            self._checks[name] = self._check(name, self._parsed[name])
            others = references[name]
            self._behind[name] = frozenset((name,)).union(*map(self._behind.__getitem__, others))

    def __getitem__(self, name: str) -> Check:
        return self._checks[name]

    def behind(self, name: str) -> frozenset[str]:
        """The rule, and all to which it refers, also through others."""
        return self._behind[name]

    def reads_only_roles(self, name: str) -> bool:
        return all(
            _reads_only_roles(part)
            for rule in self.behind(name)
            for part in _parts(self._parsed[rule])
        )

    def _check(self, name: str, node: Any) -> Check:
        if isinstance(node, policy.AndCheck):
            return partial(_all, [self._check(name, part) for part in node.rules])
        if isinstance(node, policy.OrCheck):
            return partial(_any, [self._check(name, part) for part in node.rules])
        if isinstance(node, policy.NotCheck):
            return partial(_not, self._check(name, node.rule))
        if not isinstance(node, policy.Check):
            return _yes if str(node) == "@" else _no
        reference = _reference(node)
        if node.kind == "rule":
            return self._checks[node.match]
        match = _match(name, node)
        if node.kind == "role":
            return partial(_has_role, match)
        if reference == _IS_ADMIN:
            return partial(_is_admin, self._checks[_IS_ADMIN], match)
        return partial(_equals, _value(name, node), match)


Match: TypeAlias = Callable[[Mapping[str, str]], str | None]


def _parsed(name: str, text: Text) -> Any:
    """oslo.policy's tree. It stands a check that refuses everybody for all that it does not understand."""
    words = (
        text.split() if isinstance(text, str) else [word for part in text for word in _words(part)]
    )
    parsed = policy.Rules.from_dict({name: cast(str, text)})[name]
    if _is_deeper(parsed, MAX_DEPTH):
        raise StartRefused(f'"{name}" is nested more than {MAX_DEPTH} levels deep')
    written = sum(word.strip("()") == "!" for word in words)
    if sum(str(part) == "!" for part in _parts(parsed)) != written:
        raise StartRefused(
            f'"{name}": {text!r} is no check; an example is "role:admin or project_id:%(project_id)s"'
        )
    return parsed


def _words(part: str | list[str]) -> list[str]:
    return [part] if isinstance(part, str) else part


def _inner(node: Any) -> list[Any]:
    return [*getattr(node, "rules", ()), *([node.rule] if hasattr(node, "rule") else [])]


def _is_deeper(node: Any, levels: int) -> bool:
    return levels < 0 or any(_is_deeper(part, levels - 1) for part in _inner(node))


def _parts(node: Any) -> Iterator[Any]:
    """The tree's leaves."""
    inner = _inner(node)
    if not inner:
        yield node
    for part in inner:
        yield from _parts(part)


def _references(check: Any) -> set[str]:
    found = {_reference(part) for part in _parts(check)}
    return {name for name in found if name is not None}


def _reference(part: Any) -> str | None:
    """The rule that the check refers to."""
    if not isinstance(part, policy.Check):
        return None
    return (
        str(part.match) if part.kind == "rule" else _IS_ADMIN if part.kind == "is_admin" else None
    )


def _reads_only_roles(part: Any) -> bool:
    if not isinstance(part, policy.Check) or part.kind == "rule":
        return True
    return part.kind in ("role", "is_admin") and "%" not in part.match


def _match(name: str, node: Any) -> Match:
    """The text on the right of the check, as a function of the target; None: the target has no such attribute."""
    text = node.match
    names = _PLACEHOLDER.findall(text)
    if "%" in _PLACEHOLDER.sub("", text) or not {*names} <= {"project_id", "queue_name"}:
        raise StartRefused(
            f'"{name}": {str(node)!r} asks for something else than %(project_id)s and %(queue_name)s, '
            "which are all that the service knows of a target"
        )
    return partial(_filled, text) if names else lambda _: text


def _filled(text: str, target: Mapping[str, str]) -> str | None:
    try:
        return text % target
    except KeyError:
        return None


def _value(name: str, node: Any) -> Callable[[Caller], str | None]:
    """The attribute of the caller, or the literal, on the left of the check."""
    if node.kind in _CALLER:
        return _CALLER[node.kind]
    try:
        literal = str(ast.literal_eval(node.kind))
    except (ValueError, SyntaxError):
        pass
    else:
        return lambda _: literal
    if node.kind in ("http", "https", "remote"):
        raise StartRefused(
            f'"{name}": {str(node)!r} would ask another server at every request, which this service does not do'
        )
    known = ", ".join(("role", "rule", "is_admin", *_CALLER))
    raise StartRefused(f'"{name}": {node.kind!r} is no kind of check; the kinds are {known}')


def _yes(asked: Asked) -> bool:
    return True


def _no(asked: Asked) -> bool:
    return False


def _all(checks: list[Check], asked: Asked) -> bool:
    return all(check(asked) for check in checks)


def _any(checks: list[Check], asked: Asked) -> bool:
    return any(check(asked) for check in checks)


def _not(check: Check, asked: Asked) -> bool:
    return not check(asked)


def _has_role(match: Match, asked: Asked) -> bool:
    role = match(asked.target)
    return role is not None and role.lower() in asked.roles


def _is_admin(check: Check, match: Match, asked: Asked) -> bool:
    return match(asked.target) == str(check(asked))


def _equals(value: Callable[[Caller], str | None], match: Match, asked: Asked) -> bool:
    known = value(asked.caller)
    return known is not None and known == match(asked.target)
