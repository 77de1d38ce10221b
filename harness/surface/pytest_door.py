"""The door that pytest opens in every project. Knows only how to tell whether evals are meant.

A project that has nothing to do with evals gets no options, no output and no imports from here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our options, and load the rest of us, only where evals are meant."""
    config = pluginmanager.get_plugin("pytestconfig")
    parameters = getattr(config, "invocation_params", None)
    if parameters is None or not means_evals(list(map(str, parameters.args)), parameters.dir):
        return
    if sys.platform == "linux" and _is_the_command():
        from harness.surface import parent

        parent.begin(config)
    from harness.surface import eval_options, pytest_evals

    eval_options.add_options(parser)
    pluginmanager.register(pytest_evals, "harness-evals")


def means_evals(arguments: list[str], folder: Path) -> bool:
    """Tell whether the folder or an argument shows a `task.toml` or `[tool.harness]`."""
    if any(_has_settings(f / "pyproject.toml") for f in (folder, *folder.parents[:3])):
        return True
    named = [folder / a.partition("::")[0] for a in arguments if a and not a.startswith("-")]
    return any(_shows_a_task(path) for path in [*named, folder])


def _is_the_command() -> bool:
    """Tell whether this process was started as pytest: neither by a program that calls
    `pytest.main`, as workers of xdist do, nor by a test that calls it.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        where = frame.f_globals.get("__name__")
        if where == "_pytest.config" and frame.f_code.co_name.endswith("console_main"):
            return True
        if where == "_pytest.runner":
            return False
    return False


def _has_settings(path: Path) -> bool:
    try:
        return b"[tool.harness" in path.read_bytes()
    except OSError:
        return False


def _shows_a_task(path: Path) -> bool:
    try:
        if not path.exists():
            return False
        if any((f / "task.toml").is_file() for f in (path, *path.parents[:2])):
            return True
        return path.is_dir() and any((f / "task.toml").is_file() for f in path.iterdir())
    except OSError:
        return False
