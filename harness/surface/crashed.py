"""What is said of an eval that took its worker of xdist with it. Knows no time limit, no store."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.surface.eval_session import EvalSession
from harness.surface.eval_trials import EvalTrial

WHY = (
    "the process that ran it ended (a crash in C code, or code that held Python for longer than "
    "`eval_timeout_s` in task.toml and could not be ended in another way)"
)


def tell_crash(session: EvalSession, nodeid: str, report: pytest.TestReport) -> None:
    """Let the report of a crashed item name the case, and why.

    It gives no score and no fault: what ended the process may be no eval's doing (a machine out of
    memory), so the run is a partial one, and no verdict rests on it.
    """
    place, _, rest = nodeid.partition("::")
    path = session.config.rootpath / place
    try:
        evaluation = session.evaluation_of(path)
    except HarnessError:  # not an eval of a task that can be read: pytest's own error says it
        return
    if not _is_of_evals(path):
        return
    name = rest.partition("[")[2].removesuffix("]")  # a candidate's name may hold `::`
    trials = (EvalTrial(evaluation, id_) for id_ in evaluation.trial_ids())
    found = {t.id.case_id for t in trials if f"{name}-".startswith(f"{t.title}-")}
    # an eval with parameters of its own bears them behind; one case, or what pytest calls it
    report.longrepr = f"{found.pop() if len(found) == 1 else name or rest}: {WHY}"


def _is_of_evals(path: Path) -> bool:
    return path.name == "task.toml" or path.match("eval_*.py")
