"""The README's tour works as written, block by block."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, section
from tests.docs.tour import Terminals, blocks, is_shown, is_shown_somewhere

README = (ROOT / "README.md").read_text()
TOUR = blocks(README)


def test_the_tour_prints_what_the_readme_shows(tmp_path: Path) -> None:
    terminals = Terminals(tmp_path)
    in_turn = [block for block in TOUR if block.kind == ""]

    with contextlib.ExitStack() as open_terminals:
        for block in TOUR:
            if block.kind == "background":
                open_terminals.enter_context(terminals.background(block))
        printed = terminals.run([block.text for block in in_turn])

        for block, text in zip(in_turn, printed, strict=True):
            assert block.output is None or is_shown(block.output, text), text
        for block in TOUR:
            if block.kind == "eventually":
                text = terminals.printed_by(block.name, block.text)
                assert is_shown_somewhere(block.text, text), text


def test_every_block_of_the_tour_is_run() -> None:
    tour = section(README, "## Five minutes")

    assert tour.count("```sh\n") == sum(block.kind != "eventually" for block in TOUR)
    assert tour.count("```text\n") == sum(
        (block.kind == "eventually") + (block.output is not None) for block in TOUR
    )


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
