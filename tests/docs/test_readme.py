"""The README's tour works as written, block by block."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, section
from tests.docs.tour import assert_every_block_is_run, is_shown, play

README = (ROOT / "README.md").read_text()


def test_the_tour_prints_what_the_readme_shows(tmp_path: Path) -> None:
    play(README, tmp_path)


def test_every_block_of_the_tour_is_run() -> None:
    assert_every_block_is_run(section(README, "## Five minutes"))


@pytest.mark.parametrize(
    ("expected", "printed", "shown"),
    [
        ("a …\n1", "a  b c\n1\n", True),
        ("…{x}…", "({x})", True),
        ("a", "a b", False),
        ("a … b", "a b", False),
        ("a.c", "abc", False),
    ],
)
def test_dots_stand_for_anything_and_white_space_for_any(
    expected: str, printed: str, shown: bool
) -> None:
    assert is_shown(expected, printed) == shown
