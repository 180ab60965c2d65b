"""Each recipe works as its page says, block by block."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import DOCS
from tests.docs.tour import assert_every_block_is_run, play

RECIPES = [*sorted((DOCS / "recipes").glob("*.md")), DOCS / "delivery-log.md"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_prints_what_its_page_shows(recipe: Path, tmp_path: Path) -> None:
    page = recipe.read_text()

    assert_every_block_is_run(page)
    play(page, tmp_path)
