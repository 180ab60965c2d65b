"""The files, headings, settings, defaults and make targets that pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks, pages, prose, read, rows, section
from zaqar_notify.settings import CLIENT_NAMES, CONFIG_FILE, TEST_PREFIX, Settings, variable

PAGES = pages()
OF_HEAT = "ZAQAR_SIGNAL"
SETTINGS = {CONFIG_FILE, OF_HEAT, *CLIENT_NAMES, *map(variable, Settings.model_fields)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


def test_settings_that_are_named_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\bZAQAR_[A-Z_]*[A-Z]\b", page.read_text()):
            assert name in SETTINGS or name.startswith(TEST_PREFIX), f"{page.name}: {name}"


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for page in PAGES:
        text = page.read_text()
        commands = [*blocks(text, "sh"), *re.findall(r"`([^`]+)`", prose(text))]
        for target in re.findall(r"(?:^|\s)make ([a-z]+)", "\n".join(commands), re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"


def test_limits_of_settings_are_their_defaults() -> None:
    defaults = Settings()
    checked = 0
    for _, limit, setting in rows(section(read("security.md"), "## Limits of a request")):
        names = re.findall(r"`ZAQAR_(\w+)`", setting)
        shown = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,.]*", limit)]
        values = [getattr(defaults, name.lower()) for name in names]
        if names and not _is_in_words(limit):
            assert set(shown) >= set(map(float, values)), limit
            checked += 1

    assert checked > 8


def test_every_page_is_in_the_index() -> None:
    index = read("README.md")

    for page in [*DOCS.glob("*.md"), *DOCS.glob("recipes/*.md")]:
        name = page.relative_to(DOCS).as_posix()
        assert name == "README.md" or f"({name})" in index, name


def test_the_change_log_has_each_kind_of_change_once_in_a_release() -> None:
    in_order = [
        "Removed",
        "Deprecated",
        "Changed",
        "Added",
        "Fixed",
    ]  # First what can break a client.

    for release in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert kinds == [kind for kind in in_order if kind in kinds]


def _is_in_words(limit: str) -> bool:
    return any(word in limit for word in ("day", "hours", "minutes", "times"))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
