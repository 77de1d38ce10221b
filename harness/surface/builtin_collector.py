"""Collects a task's built-in evals from its `task.toml`. Knows nothing of what they score."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

from harness.errors import HarnessError
from harness.surface import builtin_evals
from harness.surface.eval_session import SESSION
from harness.surface.words import from_here

OURS = re.compile(r"^\s*cases\s*=", re.MULTILINE)


class BuiltinEvals(pytest.Module):
    """The built-in evals of one task, as the functions of a module that has no file."""

    def _getobj(self) -> ModuleType:
        return self._functions

    @cached_property
    def _functions(self) -> ModuleType:
        module = ModuleType(builtin_evals.__name__, builtin_evals.__doc__)
        task = self.config.stash[SESSION].evaluation_of(self.path).task
        for name, function in builtin_evals.builtin_evals(task).items():
            function.__module__ = module.__name__  # pytest may leave out what is imported
            vars(module)[f"test_{name}"] = function
        return module

    def funcnamefilter(self, name: str) -> bool:
        """Take our names, whatever the project calls its own tests."""
        return name.startswith("test_")

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Return the items. Raises CollectError where the task cannot be read."""
        session = self.config.stash[SESSION]
        try:
            session.evaluation_of(self.path)
        except HarnessError as exc:
            session.error = exc
            if session.is_watched:
                return []
            raise self.CollectError(from_here(str(exc))) from exc
        return super().collect()


def collector_of(path: Path, parent: pytest.Collector) -> BuiltinEvals | None:
    """Return the collector of the task in `path`, where it has built-in evals, or where it is
    broken and has no eval file that would say so.
    """
    try:
        task = parent.config.stash[SESSION].evaluation_of(path).task
        has_some = bool(task.builtin_names)
    except HarnessError:
        has_some = not any(path.parent.glob("eval_*.py")) and _is_ours(path)
    return BuiltinEvals.from_parent(parent, path=path) if has_some else None


def _is_ours(path: Path) -> bool:
    # other tools have a task.toml too
    return bool(OURS.search(path.read_text(encoding="utf-8", errors="replace")))
