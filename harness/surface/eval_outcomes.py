"""From the end of a pytest item to a score. Knows nothing of stores or tables."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.engine.fetch import no_score
from harness.engine.outcomes import is_miss, is_unscored, reason_of
from harness.engine.project import task_folder_of
from harness.errors import BackendError
from harness.records import Fault
from harness.surface.eval_items import EvalItem
from harness.surface.eval_properties import ALIKE, alike
from harness.surface.eval_trials import EvalTrial, is_dialogue
from harness.surface.words import escaped

PATTERN = "eval_*.py"
"""What files with evals are called."""
GIVEN = pytest.StashKey[float]()
"""What the eval gave to `score(...)`."""
PARTS = pytest.StashKey[Counter[tuple[Path, str]]]()
"""Of the session: how many items each score of a task has for one trial (`eval_parts`)."""
FOLDER = "harness_folder"
"""The attribute of a report that says where its task is: two tasks may have one name."""
REPLY = "harness_reply"
"""The attribute of a worker's report that says which reply was measured: the controller of xdist
asked for none."""
TURNS = pytest.StashKey[list[str]]()
"""The keys of the replies of an item's dialogue, as they come."""
SETTLED = pytest.StashKey[pytest.ExceptionInfo[BaseException]]()
"""What a fixture measured: then the eval function is not called, and the item ends as if it had."""


class NoReply(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """There is no reply to measure, or who was asked for a score did not answer: a fault of the
    backend, told once for all cases alike.
    """

    def __init__(self, message: str, *, fault: Fault | None = None) -> None:
        super().__init__(message, pytrace=False)
        self.fault = fault


def score_name(item: pytest.Item) -> str:
    """Return the name of the score that an item gives: its function's, without `test_`."""
    name: str = getattr(item, "originalname", None) or item.name
    return name.removeprefix("test_")


def judged(
    item: pytest.Item, call: pytest.CallInfo[None], trial: EvalTrial
) -> pytest.TestReport | None:
    """Return the report of an eval item: scored, missed, unscored or, as pytest has it, failed."""
    excinfo = call.excinfo or item.stash.get(SETTLED, None)
    error = excinfo.value if excinfo else None
    if isinstance(error, BackendError):  # a check's server is down: no bug to show the frames of
        who = trial.id.case_id or trial.id.candidate
        lost = NoReply(f"{who}: {error}", fault=no_score(error))
        error = lost.with_traceback(error.__traceback__)
        call = copy.copy(call)
        call.excinfo = pytest.ExceptionInfo.from_exception(error)
    if call.when == "setup" and error is None:
        return None
    said: dict[str, Any] = {}
    mark = ""
    if error is None:
        said["score"] = item.stash.get(GIVEN, 1.0)
    elif is_miss(error, folder=task_folder_of(item.path)):
        said["score"] = 0.0  # a share that a check measured is a score only through `score(...)`
        said["miss"] = reason_of(error)
        mark = "missed"
    elif is_unscored(error):
        said["unscored"] = reason_of(error)
        mark = "unscored"
    else:
        said["fault"] = reason_of(error)
    if mark and call.when == "setup" and excinfo is not None:
        item.stash[SETTLED] = excinfo
        call = copy.copy(call)
        call.excinfo = None
        return pytest.TestReport.from_item_and_call(item, call)
    if isinstance(error, NoReply) and error.fault:
        fault = error.fault
        said |= {"fault": fault.message, "origin": fault.origin, "is_missing": fault.is_missing}
    if (turns := item.stash.get(TURNS, None)) is not None:
        said["turns"] = " ".join(turns)
        said["is_dialogue"] = is_dialogue(item)
    parts = item.config.stash[PARTS][trial.evaluation.task.folder, score_name(item)]
    if parts > 1:
        said["parts"] = parts
    said = escaped(said)  # so that a worker of xdist and one process record the same run
    item.user_properties += _properties(item, trial, said)
    if mark:  # pytest renders no traceback for a measurement, and a debugger still sees the error
        call = copy.copy(call)
        call.excinfo = None
    report = pytest.TestReport.from_item_and_call(item, call)
    vars(report)[FOLDER] = str(task_folder_of(item.path))
    if hasattr(item.config, "workerinput") and (key := trial.evaluation.replied(trial.id)):
        vars(report)[REPLY] = key
    if isinstance(item, EvalItem):
        item.has_told(report)
    if isinstance(error, NoReply):
        vars(report)["harness_mark"] = "fault"
    if mark:
        vars(report)["harness_mark"] = mark  # a plain attribute, so that xdist carries it over
        if mark == "missed":
            report.sections.append(("miss", said["miss"]))
    return report


def mark_of(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Return pytest's category, letter and word for a marked report."""
    mark = getattr(report, "harness_mark", None)
    if mark is None or getattr(report, "when", "") == "teardown":
        return None
    category = "faulted" if mark == "fault" else mark  # pytest counts it: "10 faulted"
    return (category, {"missed": "m", "unscored": "u", "fault": "F"}[mark], mark.upper())


def said_by(properties: Iterable[tuple[str, object]]) -> dict[str, Any] | None:
    """Return what `judged` wrote into the properties of a report, or None."""
    found = dict(properties)
    return found if "eval" in found and "task" in found else None


def _properties(
    item: pytest.Item, trial: EvalTrial, said: dict[str, Any]
) -> list[tuple[str, object]]:
    where: dict[str, Any] = {
        "task": trial.evaluation.task.name,
        "eval": score_name(item),
        "candidate": trial.id.candidate,
        "case": trial.id.case_id,
        "repeat": trial.id.repeat,
    }
    return [
        alike(name, value) if name in ALIKE else (name, value)
        for name, value in (where | said).items()
    ]
