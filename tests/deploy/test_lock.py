"""`lock/`: the versions and hashes that `make`, CI and the image install, renewed by `make lock`."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN_TIME: list[str] = PROJECT["project"]["dependencies"]
OPENSTACK: list[str] = PROJECT["project"]["optional-dependencies"]["openstack"]
GROUPS: dict[str, list[str]] = PROJECT["dependency-groups"]
SHIPPED: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PARTS = {
    "run": RUN_TIME,
    "build": GROUPS["build"],
    "all": [*RUN_TIME, *(text for group in GROUPS.values() for text in group)],
}
"""Each file of the lock, and its requirements."""

_ENTRY = re.compile(
    r"^([\w.-]+==[^\\\n]+?) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)


@cache
def locked(part: str) -> dict[str, tuple[Requirement, frozenset[str]]]:
    """The packages of a file, by name: the version and its hashes."""
    entries = _ENTRY.findall(text_of(part))
    found = [(Requirement(text), frozenset(hashes.split())) for text, hashes in entries]
    return {canonicalize_name(requirement.name): (requirement, h) for requirement, h in found}


def text_of(part: str) -> str:
    return (ROOT / "lock" / f"{part}.txt").read_text()


@pytest.mark.parametrize("part", PARTS)
def test_the_lock_has_all_that_is_asked_for(part: str) -> None:
    for text in PARTS[part]:
        wanted = Requirement(text)
        locked_here, _ = locked(part).get(canonicalize_name(wanted.name), (None, None))
        assert locked_here is not None, f"{text} is not in lock/{part}.txt: run make lock"
        (version,) = locked_here.specifier
        assert wanted.specifier.contains(version.version), f"{text} is not met: run make lock"


@pytest.mark.parametrize("part", PARTS)
def test_every_line_of_the_lock_is_a_version_with_hashes_and_names_no_place(part: str) -> None:
    rest = re.sub(r"^ *#.*\n", "", _ENTRY.sub("", text_of(part)), flags=re.M)

    assert rest == ""
    assert "://" not in text_of(part)


def test_the_parts_of_the_lock_agree() -> None:
    for part in ("run", "build"):
        for name, (requirement, hashes) in locked(part).items():
            same, same_hashes = locked("all")[name]
            assert (same.specifier, same_hashes) == (requirement.specifier, hashes), name


def test_the_build_needs_what_is_locked_for_it() -> None:
    names = {canonicalize_name(Requirement(text).name) for text in GROUPS["build"]}

    assert set(PROJECT["build-system"]["requires"]) <= names


def test_the_shipped_packages_import_all_required_packages_and_no_others() -> None:
    distributions = packages_distributions()
    imported = {
        canonicalize_name(distributions.get(name, [name])[0])
        for name in set(_imports())
        if name not in sys.stdlib_module_names and name not in SHIPPED
    }

    required = {canonicalize_name(Requirement(text).name) for text in RUN_TIME}
    optional = {canonicalize_name(Requirement(text).name) for text in OPENSTACK}
    assert imported - optional == required


def _imports() -> Iterator[str]:
    """The first parts of the names that the shipped packages import, anywhere in them."""
    for package in SHIPPED:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module.partition(".")[0]
