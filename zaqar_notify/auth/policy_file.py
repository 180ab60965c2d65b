"""The policy of an operator's file, which is an OpenStack policy file in YAML or JSON."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

from zaqar_notify.auth.callers import Caller, How
from zaqar_notify.auth.checks import Asked, Check, Checks, Text, asked
from zaqar_notify.auth.policies import ShippedPolicy, Target, openstack_roles
from zaqar_notify.auth.rules import BLOCKS, FORMER, RULES
from zaqar_notify.errors import StartRefused

LOOK_SECONDS = 1.0
"""Between two looks whether the file has changed."""
MAX_DECISIONS = 1024
"""Decisions about roles that are kept for each rule."""

Decide: TypeAlias = Callable[[Caller, Target], bool]

logger = logging.getLogger(__name__)


class FilePolicy:
    """The rules of a file; the shipped defaults for all others, and for callers that are judged strictly."""

    def __init__(self, path: Path, shipped: ShippedPolicy) -> None:
        """
        Raises:
            StartRefused: The file can't be used.
        """
        self._path = path
        self._shipped = shipped
        self._stamp = _stamp(path)
        self._decide = self._read()

    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        decide = None if caller.is_strict else self._decide.get(rule)
        if decide is None:
            return self._shipped.permits(caller, rule, target)
        return decide(caller, target)

    async def follow(self) -> None:
        """Look for changes of the file until this is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """If the file has changed, take its rules; if they can't be used, the former ones go on."""
        stamp = await asyncio.to_thread(_stamp, self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._decide = await asyncio.to_thread(self._read)
        except Exception as error:
            logger.error(
                "The changed policy file can't be used; the former rules hold",
                extra={"action": "policy_refused", "error": str(error)},
                exc_info=None if isinstance(error, StartRefused) else error,
            )
        else:
            logger.info(
                "The policy file has changed; its rules hold from now on",
                extra={"action": "policy_changed", "path": str(self._path)},
            )

    def _read(self) -> Mapping[str, Decide]:
        """The decisions about all rules that the file changes, also because they refer to one that it has."""
        written = _written(self._path)
        shipped = {
            rule.name: rule.check(is_strict=self._shipped.is_strict) for rule in RULES.values()
        }
        try:
            checks = Checks(
                {**BLOCKS, **shipped, **{name: one.text for name, one in written.items()}}
            )
            for name in written:
                _refuse_unknown(name, written, checks)
        except StartRefused as error:
            raise _refusal(self._path, _with_line(str(error), written)) from None
        return {
            name: _decision(checks[name], only_roles=checks.reads_only_roles(name))
            for name in RULES
            if not checks.behind(name).isdisjoint(written)
        }


class _Written(NamedTuple):
    text: Text
    line: int


def _decision(check: Check, *, only_roles: bool) -> Decide:
    if not only_roles:
        return lambda caller, target: check(asked(caller, target))

    @lru_cache(maxsize=MAX_DECISIONS)
    def by_roles(how: How, roles: frozenset[str]) -> bool:
        return check(Asked(Caller(None), openstack_roles(how, roles), {}))

    return lambda caller, _: by_roles(caller.how, caller.roles)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Another one after each change of the file; None while there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _written(path: Path) -> dict[str, _Written]:
    """The rules as the file has them, with their lines."""
    try:
        text = path.read_text(encoding="utf-8")
        document, root = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _refusal(path, "it is not UTF-8 text") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _refusal(path, _not_yaml(error)) from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise _refusal(path, 'it must be lines like "messages:create": "role:member"')
    written: dict[str, _Written] = {}
    for key, value in root.value:
        line, name = key.start_mark.line + 1, key.value
        if name in written:
            raise _refusal(path, f'line {line}: "{name}" is there twice')
        if not _is_check(document.get(name)) or _is_bare(value):
            raise _refusal(
                path,
                f'line {line}: "{name}" needs a check in quotes, such as "role:admin"; "" permits everyone, "!" nobody',
            )
        written[name] = _Written(document[name], line)
    return written


def _is_check(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list)
        and all(
            isinstance(part, str)
            or (isinstance(part, list) and all(isinstance(word, str) for word in part))
            for part in value
        )
    )


def _is_bare(node: Any) -> bool:
    """Whether YAML makes an empty text, which permits everyone, of something that is not quoted, such as `!`."""
    return isinstance(node, yaml.ScalarNode) and node.value == "" and node.style not in ("'", '"')


def _refuse_unknown(name: str, written: Mapping[str, _Written], checks: Checks) -> None:
    """Refuse a rule that guards nothing and that no other refers to: it is misspelt."""
    if name in RULES or name in FORMER or ":" not in name:
        return
    if any(name in checks.behind(other) for other in written if other != name):
        return
    nearest = difflib.get_close_matches(name, RULES, n=1)
    hint = f'did you mean "{nearest[0]}"?' if nearest else "zaqar-notify policy list prints all"
    raise StartRefused(f'"{name}" is no rule of this service; {hint}')


def _with_line(sentence: str, written: Mapping[str, _Written]) -> str:
    """The sentence, which begins with the name of a rule, after the rule's line."""
    one = written.get(sentence.split('"')[1])
    return sentence if one is None else f"line {one.line}: {sentence}"


def _not_yaml(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = "" if mark is None else f"line {mark.line + 1}: "
    return f"{place}it is not YAML: {getattr(error, 'problem', None) or error}"


def _refusal(path: Path, reason: str) -> StartRefused:
    return StartRefused(f"ZAQAR_POLICY_FILE={str(path)!r} can't be used: {reason}")
