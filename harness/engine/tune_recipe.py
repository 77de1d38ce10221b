"""Which recipe a training follows, and where in its file a mistake stands. Knows no keys.

A tuner is given what a recipe says and not where that stands: its `RecipeError` names keys, and
gets file and lines here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.engine.taskfile import StageTable, TuneTable
from harness.engine.text_files import read_text, read_toml
from harness.errors import RecipeError, TaskError
from harness.records import Json

COMMAND = "command"


def recipe_file(folder: Path, stage: StageTable, *, named: Path | None = None) -> Path | None:
    """Return the recipe of a stage: the one that was `named`, else its own, else None."""
    return named or (folder / stage.recipe if stage.recipe else None)


def read_recipe_file(file: Path | None, stage: StageTable, *, table: TuneTable) -> dict[str, Json]:
    """Return what a recipe says, with the training line of task.toml. Raises TaskError."""
    settings = read_toml(file) if file else {}
    if stage.tuner == COMMAND and table.command:
        settings = {COMMAND: table.command, **settings}
    return settings


@contextmanager
def recipe_named(file: Path | None, *, folder: Path) -> Iterator[None]:
    """Put `file:line` into the RecipeErrors of a tuner, for a task in `folder`."""
    try:
        yield
    except RecipeError as exc:
        place = place_of(file, exc.keys, folder=folder)
        raise RecipeError(exc.problem, keys=exc.keys, place=place) from exc


def place_of(file: Path | None, keys: Sequence[str], *, folder: Path) -> str:
    """Return where `keys` stand: `FILE:2, 5`, the file alone where none of them is said there, and
    `recipe` where there is no file.
    """
    for path in (file, folder / "task.toml" if COMMAND in keys else None):
        lines = _lines_of(path, keys) if path else ()
        if lines:
            return f"{path}:{', '.join(map(str, lines))}"
    return str(file) if file else "recipe"


def _lines_of(path: Path, keys: Sequence[str]) -> list[int]:
    names = "|".join(re.escape(key) for key in keys)
    said = re.compile(rf"\s*(?:\[\s*)?[\"']?(?:{names})[\"']?\s*[=.\]]")
    with suppress(TaskError):  # it was read a moment ago
        text = read_text(path).split("\n") if keys else []
        return [n for n, line in enumerate(text, start=1) if said.match(line)]
    return []
