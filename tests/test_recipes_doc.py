"""docs/recipes.md names every key of a recipe, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from harness_trl.recipe import Recipe

PAGE = Path(__file__).resolve().parents[1] / "docs/recipes.md"


def test_the_page_names_every_key_of_a_recipe() -> None:
    table = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = [key for cell in table for key in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(Recipe.model_fields)
