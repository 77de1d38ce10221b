"""The lints as pytest tests: `test_lints = lint_tests("train.jsonl", "test.jsonl")`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engine.data.linting import (
    ALL_RULES,
    Report,
    Settings,
    file_rows,
    lint,
    split_of,
    task_rows,
)
from harness.engine.tasks import load_task
from harness.surface.lint_lines import report_lines

_NONE: Mapping[str, str] = {}


def lint_tests(
    *sources: str | Path,
    strict: bool = False,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    form: str | None = None,
    columns: Mapping[str, str] = _NONE,
) -> Callable[[str], None]:
    """Return a test with one item for each rule, that fails where the rule finds an error.

    `sources` are files, or the folder of one task, relative to the file that asks. With `strict`,
    warnings fail too; notes never do. Rows are read when the first item runs.
    """
    here = Path(str(sys._getframe(1).f_globals.get("__file__", "."))).parent
    paths = [here / source for source in sources]
    settings = Settings(only=tuple(only), skip=tuple(skip))
    rules = [r.name for r in ALL_RULES if settings.wants(r) and r.severity != "note"]

    @functools.cache
    def report() -> Report:
        if len(paths) == 1 and (paths[0] / "task.toml").is_file():
            task = load_task(paths[0])
            own = replace(settings, near=task.settings.near)
            return lint([task_rows(task)], settings=own, task=task)
        rows = [
            file_rows(p, form=form, columns=columns, split=split_of(p) if len(paths) > 1 else "")
            for p in paths
        ]
        return lint(rows, settings=settings)

    @pytest.mark.parametrize("rule", rules)
    def test(rule: str) -> None:
        wanted = {"error", "warn"} if strict else {"error"}
        found = tuple(f for f in report().findings if f.rule == rule and f.severity in wanted)
        if found:
            told = Report(name=report().name, rows=report().rows, bad=report().bad, findings=found)
            pytest.fail("\n".join(report_lines(told, most=10)), pytrace=False)

    return test
