"""The architecture page knows every module and every action that is logged."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.docs.pages import ROOT, named, read, rows, section

PAGE = read("architecture.md")
PACKAGES = ("zaqar_notify", "api", "workers", "sinks")


def test_the_tables_name_every_module_and_nothing_else() -> None:
    table = rows(section(PAGE, "## Modules"))
    subjects = {path for row in table for path in _paths(row[0], row)}
    named_beside = {path for row in table for path in _paths(row[1], row) if path.suffix}
    in_docstrings = {path for subject in subjects for path in _in_docstring(subject)}
    known = {path for path in subjects if path.suffix} | named_beside | in_docstrings

    assert sorted(map(_name, [path for path in subjects if not path.exists()])) == []
    missing = sorted(_name(path) for path in _modules() if not {path, path.parent} & known)
    assert not missing, f"not in the page, and not in the docstring of a package: {missing}"


def test_every_action_that_is_logged_is_listed_and_nothing_else() -> None:
    code = "".join(path.read_text() for path in _modules())
    logged = set(re.findall(r'(?:"action": |action=)"(\w+)"', code))

    listed = [named(row[0])[0] for row in rows(section(PAGE, "## Logs"))]

    assert set(listed) == logged
    assert len(listed) == len(logged)


def _modules() -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _paths(cell: str, row: list[str]) -> list[Path]:
    """The paths that a cell names. A name alone is in the directory of the row's first path."""
    first = ROOT / named(row[0])[0]
    directory = first.parent if first.suffix else first
    return [ROOT / name if "/" in name else directory / name for name in named(cell)]


def _in_docstring(package: Path) -> list[Path]:
    """The modules and directories that the docstring of a package lists."""
    module = package / "__init__.py"
    text = (ast.get_docstring(ast.parse(module.read_text())) if module.exists() else None) or ""
    return [package / name for name in text.split() if name.endswith((".py", "/"))]
