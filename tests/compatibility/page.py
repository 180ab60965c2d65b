"""`docs/compatibility.md`: made of the operations that are served, of the differences in `docs/compatibility.toml`, and of the notes of a run."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TypeAlias

import msgspec

from api.push.actions import AUTHENTICATE
from api.push.surface import ACTIONS
from tests.api.surfaces import RESOURCES
from tests.compatibility.notes import WEBSOCKET, Notes

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "compatibility.toml"
PAGE = ROOT / "docs" / "compatibility.md"

WORKS = "works"
ADDED = "works; Zaqar has no such operation"
DIFFERS = "differs on purpose: "
ABSENT = "not offered"

Clients: TypeAlias = Mapping[str, Iterable[str]]
"""The clients that call each operation."""


class Difference(msgspec.Struct):
    operations: list[str]
    zaqar: str
    here: str
    test: str
    number: str = ""


class Absent(msgspec.Struct):
    operations: list[str]
    reason: str
    test: str


class Added(msgspec.Struct):
    operations: list[str]


class Data(msgspec.Struct):
    added: Added
    refused: dict[str, int]
    differs: list[Difference]
    absent: list[Absent]


@cache
def data() -> Data:
    return msgspec.convert(tomllib.loads(DATA.read_text()), Data)


def named_tests() -> set[str]:
    """The tests that show the differences."""
    return {one.test for one in data().differs} | {one.test for one in data().absent}


@cache
def served() -> dict[str, frozenset[int]]:
    """Each operation, with its successes; of one that can't succeed the refusal."""
    found = {
        f"{method} {resource.path}": frozenset(int(one) for one in operation.replies if one < 400)
        for resource in RESOURCES
        for method, operation in resource.operations.items()
    }
    found |= {name: frozenset({status}) for name, status in data().refused.items()}
    return found | {f"{WEBSOCKET} {name}": frozenset[int]() for name in (AUTHENTICATE, *ACTIONS)}


def matches(operation: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(operation, pattern) for pattern in patterns)


def proved(notes: Notes) -> set[str]:
    """The operations whose successes all were seen."""
    seen: dict[str, set[int]] = {}
    for _, method, path, status in notes.answers:
        operation = f"{method} {path}"
        if status < 400 or operation in data().refused:
            seen.setdefault(operation, set()).add(status)
    return {name for name, wanted in served().items() if name in seen and wanted <= seen[name]}


def clients_of(notes: Notes) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for client, method, path, status in notes.answers:
        operation = f"{method} {path}"
        if client and status < 400 and operation in served():
            found.setdefault(operation, set()).add(client)
    return found


# The page


def _is_below(*starts: str) -> Callable[[str], bool]:
    return lambda operation: operation.partition(" ")[2].startswith(starts)


SECTIONS: Mapping[str, Callable[[str], bool]] = {
    "WebSocket": lambda operation: operation.startswith(f"{WEBSOCKET} "),
    "Topics": _is_below("/v2/topics"),
    "Pools, flavors and health": _is_below("/v2/pools", "/v2/flavors", "/v2/health", "/v2/moves"),
    "Version 1.1": _is_below("/v1.1"),
    "Version 1": _is_below("/v1"),
    "Version 2": lambda _: True,
}
"""Each section has the operations that are in none before it."""
ORDER = [
    "Version 2",
    "Pools, flavors and health",
    "Topics",
    "Version 1.1",
    "Version 1",
    "WebSocket",
]

HEAD = """\
# Compatibility

Which operations of Zaqar work here? `make compatibility` writes this page from a run of the tests and from [compatibility.toml](compatibility.toml).

- *Works* and *differs on purpose* stand for a test that passes and calls the operation over the wire, with every success that the operation has. CI fails where there is none.
- Clients are programs that others wrote, and that call the operation in a test: python-zaqarclient 4 and 1.13 (the last one for versions 1.1 and 1), openstacksdk,
  the commands `openstack messaging`, gophercloud, and the tests and samples inside Zaqar's own packages.
- `HEAD` is answered as `GET` everywhere. [Differences that concern no single operation](api.md#what-differs-on-purpose) are on another page.
- `D-` and a number names a known defect of Zaqar, `own-` another difference. [Differences](#differences) says what Zaqar does, and what happens here.
"""


def section_of(operation: str) -> str:
    return next(name for name, has in SECTIONS.items() if has(operation))


def render(clients: Clients) -> str:
    operations = [*served(), *(name for one in data().absent for name in one.operations)]
    by_section: dict[str, list[str]] = {name: [] for name in ORDER}
    for operation in operations:
        by_section[section_of(operation)].append(operation)
    parts = [HEAD]
    for name, found in by_section.items():
        lines = (
            f"| `{one}` | {state_of(one)} | {', '.join(sorted(clients.get(one, ())))} |"
            for one in found
        )
        parts.append(_table(f"## {name}", ("operation", "state", "clients"), lines))
    parts.append(_table("## Differences", ("", "Zaqar", "here", "test"), map(_told, numbered())))
    absent = (
        f"| {_named(one.operations)} | {one.reason} | {_test(one.test)} |" for one in data().absent
    )
    parts.append(_table("## Not offered", ("operations", "reason", "test"), absent))
    return "\n".join(parts)


def state_of(operation: str) -> str:
    if any(operation in one.operations for one in data().absent):
        return ABSENT
    if matches(operation, data().added.operations):
        return ADDED
    names = [name for name, one in numbered() if matches(operation, one.operations)]
    if names:
        return DIFFERS + ", ".join(dict.fromkeys(names))
    return WORKS


def numbered() -> list[tuple[str, Difference]]:
    """The differences by their numbers; those without one have letters of their own."""
    known = sorted((one for one in data().differs if one.number), key=lambda one: one.number)
    own = (one for one in data().differs if not one.number)
    return [(one.number, one) for one in known] + [
        (f"own-{count}", one) for count, one in enumerate(own, start=1)
    ]


def _told(row: tuple[str, Difference]) -> str:
    name, one = row
    return f"| {name} | {one.zaqar} | {one.here} | {_test(one.test)} |"


def _named(operations: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in operations)


def _test(name: str) -> str:
    file, _, function = name.partition("::")
    return f"[{function.removeprefix('test_').replace('_', ' ')}](../{file})"


def _table(heading: str, columns: Iterable[str], lines: Iterable[str]) -> str:
    names = list(columns)
    rule = "|---" * len(names) + "|"
    return "\n".join([heading, "", f"| {' | '.join(names)} |", rule, *lines, ""])


def clients_on_the_page(page: str) -> dict[str, list[str]]:
    """The clients of each operation, as the page has them."""
    rows = re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]*) ?\|$", page, re.M)
    return {operation: found.strip().split(", ") for operation, found in rows if found.strip()}


# The judgement of a run


def faults(page: str, notes: Notes) -> list[str]:
    """What the page says and the run does not prove, a sentence each."""
    known, by_notes = proved(notes), clients_of(notes)
    found = [
        f"No passing test calls {one} with all its successes"
        for one in served()
        if one not in known
    ]
    found += [f"{one} did not pass" for one in sorted(named_tests() - notes.passed)]
    for operation, clients in clients_on_the_page(page).items():
        missing = sorted(set(clients) - by_notes.get(operation, set()))
        found += [f"No test of {client} calls {operation}" for client in missing]
    if page != render(clients_on_the_page(page)):
        found.append("The page is not what `make compatibility` writes")
    return found
