"""How well prompts' documents are found, in words. Knows nothing of replies and scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.means import mean_estimate
from harness.engine.documents import Retrieval
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.records import Estimate, Run, Split
from harness.surface.words import clean, interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Recall at k of a prompt's retrieval; `unsaid` cases do not say what they need."""

    prompt: str
    k: int
    estimate: Estimate | None
    unsaid: int


def recalls(task: Task, prompts: Iterable[str], *, split: Split) -> list[Recall]:
    """Return the recall of those of `prompts` that are filled with documents."""
    requests = Requests(task)
    cases = task.split(split)
    found = []
    for name in dict.fromkeys(prompts):
        prompt = task.prompts.get(name)
        if prompt is None or not prompt.documents:
            continue
        measured = requests.retrieval(name, cases)
        found.append(
            Recall(
                prompt=name,
                k=prompt.documents,
                estimate=_estimate(measured) if measured else None,
                unsaid=measured.unsaid if measured else len(cases),
            )
        )
    return found


def recalls_of_runs(task: Task, runs: Sequence[Run]) -> list[Recall]:
    """Return the recall behind `runs` of a task, all of one split."""
    mine = [r for r in runs if r.task == task.name]
    prompts = [r.candidate.prompt for r in mine if r.candidate.prompt]
    return recalls(task, prompts, split=mine[0].split) if mine else []


def recall_lines(found: Sequence[Recall]) -> list[str]:
    """Return a line for each prompt that is filled with documents."""
    lines = []
    for one in found:
        who = f"retrieval of {clean(one.prompt)}"
        if one.estimate is None:
            lines.append(
                f'{who}: not measured: no case says what it needs (`"documents": ["FILE#n"]`)'
            )
            continue
        e = one.estimate
        lines.append(
            f"{who}: recall@{one.k} {interval(e)} on {e.n} cases that say what they need"
            + (f"; {one.unsaid} do not say" if one.unsaid else "")
        )
    return lines


def _estimate(measured: Retrieval) -> Estimate:
    return mean_estimate(measured.recalls, measured.clusters)
