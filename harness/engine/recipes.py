"""Finds a recipe's file: a path, a name of the task's own, or a name that a plugin ships. Knows
nothing of what recipes say.
"""

from __future__ import annotations

from pathlib import Path

from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.ports.manager import Plugins

HOOK = "harness_recipes"


def find_recipe(wish: str, *, home: Path, task: Task, plugins: Plugins) -> Path:
    """Return the file that `wish` means: a path from `home`, `recipes/NAME.toml` of the task, or
    the recipe NAME of a plugin. Raises UsageError where there is none.
    """
    if wish.endswith(".toml") or (home / wish).is_file():
        return home / wish  # who reads it says where it is not
    own = task.folder / "recipes" / f"{wish}.toml"
    if own.is_file():
        return own
    shipped = plugins.table(HOOK)
    if wish not in shipped:
        raise UsageError(
            f"no recipe {wish!r}: it is no file, there is no {own}, and the plugins have "
            f"{', '.join(sorted(shipped)) or 'none'}. `harness plugins --recipe NAME` shows one."
        )
    return Path(shipped[wish])


def tuner_of(file: Path, *, plugins: Plugins) -> str | None:
    """Return whose recipe a plugin's `file` is; None where it is no plugin's."""
    names = [name for name, shipped in plugins.table(HOOK).items() if Path(shipped) == file]
    return names[0].partition("/")[0] if names else None


def check_tuner(file: Path, *, tuner: str, plugins: Plugins) -> None:
    """Raise UsageError where a plugin's `file` was made for another tuner."""
    owner = tuner_of(file, plugins=plugins)
    if owner not in {None, tuner}:
        raise UsageError(
            f"the recipe {file.name} is one of the tuner {owner!r}, and {tuner!r} was asked for: "
            f"leave out one of the two, or name a recipe of {tuner}"
        )
