"""The page for writers of drivers names the whole contract, and its example runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.contract.conftest import DRIVERS
from tests.docs.pages import ROOT, blocks, named, read, rows, section
from zaqar_notify.storage import base, control

PAGE = read("add-a-driver.md")
FIXTURE, FIRST_TRY = blocks(PAGE, "python")
WHAT_TO_WRITE = rows(section(PAGE, "## What to write"))


def test_every_class_and_method_of_the_contract_is_named() -> None:
    documented = {named(row[0])[0]: set(named(row[1])) for row in WHAT_TO_WRITE}
    contract = {
        kind.__name__: set(kind.__abstractmethods__)
        for module in (base, control)
        for kind in vars(module).values()
        if isinstance(kind, type)
        # Written by posters, not by drivers.
        and not issubclass(kind, base.Post)
        and hasattr(kind, "__abstractmethods__")
        and kind.__module__.startswith("zaqar_notify.storage.")
    }

    assert {kind: documented.get(kind) for kind in contract} == contract


def test_the_places_to_change_exist() -> None:
    places = [named(row[0])[0] for row in rows(section(PAGE, "## In this repository"))]

    assert len(places) > 3
    for place in places:
        assert (ROOT / place.replace("NAME", "sqlite")).exists(), place


def test_the_line_for_the_contract_suite_has_its_form(tmp_path: Path) -> None:
    drivers = dict(DRIVERS)

    exec(FIXTURE, {"DRIVERS": drivers, "Path": Path})  # noqa: S102 - our own page

    assert [type(entry) for entry in drivers.values()] == [type(drivers["mine"])] * len(drivers)
    assert drivers["mine"](tmp_path).startswith("mine:///")


async def test_the_first_try_works_on_a_driver(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(FIRST_TRY, names)  # noqa: S102 - our own page

    assert await names["first_try"](f"sqlite://{tmp_path}/store.db") == [b'{"order": 2}']
