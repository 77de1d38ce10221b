"""Evals that nobody writes: a task's files ask for them. Knows nothing of how they are collected.

They are evals like any other: their fixtures are `case`, `reply` and the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.engine.case_checks import run_case_checks
from harness.engine.tasks import CHECKS, Task
from harness.records import Case, Reply
from harness.surface.judge_evals import judge_eval


def builtin_evals(task: Task) -> dict[str, Callable[..., Any]]:
    """Return the built-in evals that `task` asks for, by the name of their score."""
    found: dict[str, Callable[..., Any]] = {}
    if CHECKS in task.builtin_names:
        found[CHECKS] = test_checks
    found |= {n: judge_eval(n) for n in task.builtin_names if n in task.settings.judges}
    return found


def test_checks(case: Case, reply: Reply) -> None:
    """Hold where every check that the case carries holds; a miss names all that do not."""
    run_case_checks(case, reply)
