"""A mistake in a recipe is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engine.tune_recipe import place_of, recipe_named
from harness.errors import RecipeError

TEXT = """# how it is trained
epochs = 3
"learning_rate" = 1

 rank=0
[targets]
"""


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (("epochs",), ":2"),
        (("learning_rate", "rank"), ":3, 5"),
        (("targets",), ":6"),
        (("rate", "alpha"), ""),
        ((), ""),
    ],
)
def test_a_mistake_has_the_lines_of_its_keys(
    tmp_path: Path, keys: tuple[str, ...], lines: str
) -> None:
    file = tmp_path / "r.toml"
    file.write_text(TEXT)
    with (
        pytest.raises(RecipeError) as told,
        recipe_named(file, folder=tmp_path),
    ):
        raise RecipeError("it cannot be", keys=keys)
    assert str(told.value) == f"{file}{lines}: it cannot be"


def test_a_training_line_stands_in_task_toml_or_in_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text('[tune]\nprompt = "p"\ncommand = "train"\n')
    assert place_of(None, ["command"], folder=tmp_path) == f"{tmp_path / 'task.toml'}:3"
    assert place_of(None, ["epochs"], folder=tmp_path) == "recipe"
    own = tmp_path / "r.toml"
    own.write_text('command = "other"\n')
    assert place_of(own, ["command"], folder=tmp_path) == f"{own}:1"
