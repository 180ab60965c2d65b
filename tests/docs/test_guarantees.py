"""Each guarantee names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, read

GUARANTEES = dict(
    re.findall(r"^## (G\d): .*?\n(.*?)(?=^## |\Z)", read("guarantees.md"), re.S | re.M)
)
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read("guarantees.md"))))
IN_README = re.findall(r"^\| (G\d) \|", (ROOT / "README.md").read_text(), re.M)


def test_every_guarantee_of_the_readme_says_what_it_rests_on_and_names_tests() -> None:
    assert list(GUARANTEES) == IN_README == [f"G{number}" for number in range(1, 10)]
    for text in GUARANTEES.values():
        assert "**Rests on**" in text
        assert "**Ends**" in text
        assert "::test_" in text


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / path).read_text()
