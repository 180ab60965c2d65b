"""The architecture page knows every module and every action that is logged."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import ROOT, named, read, rows, section

PAGE = read("architecture.md")
PACKAGES = ("zaqar_notify", "api", "workers", "sinks")


def test_the_map_names_every_module_and_nothing_else() -> None:
    mapped = {named(row[0])[0] for row in rows(section(PAGE, "## Modules"))}

    assert {name for name in mapped if not (ROOT / name).exists()} == set()
    assert {module for module in map(_name, _modules()) if not _is_mapped(module, mapped)} == set()


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


def _name(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def _is_mapped(module: str, mapped: set[str]) -> bool:
    return module in mapped or any(
        name.endswith("/") and module.startswith(name) for name in mapped
    )
