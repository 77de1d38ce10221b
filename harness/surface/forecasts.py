"""What a task's cases could show, as lines for a terminal. Of scores it knows the last verdict."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import replace

from harness.core.planning import (
    EXPECTED_GAP,
    Plan,
    brief,
    meanwhile,
    needs_line,
    plan_wall,
    reason,
    ship_line,
)
from harness.engine.boundary import INTERNAL, stay_inside
from harness.engine.evaluate import Evaluation, TrialId
from harness.engine.tasks import Task
from harness.engine.walls import changed_since, last_wall
from harness.errors import UsageError
from harness.store.store import Store
from harness.surface.words import clean, percent

WIDEST = 100
KEPT = "\u00a0"


def plan_of(task: Task, *, gap: float = EXPECTED_GAP) -> Plan:
    """Return what the dev and test cases of `task` can show."""
    clusters = [c.cluster for c in task.split("dev")]
    sizes = dict.fromkeys(clusters, 0)
    for name in clusters:
        sizes[name] += 1
    return plan_wall(
        len(clusters),
        len(sizes),
        target=task.settings.target,
        gap=gap,
        sealed_clusters=len({c.cluster for c in task.split("test")}),
        largest_share=max(sizes.values(), default=0) / max(len(clusters), 1),
    )


def opening_lines(task: Task, store: Store) -> list[str]:
    """Return the few lines that a ladder, and a whole run over dev, begin with.

    Where a wall verdict in `store` holds for these cases, its need of cases is told, and no other.
    """
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    text = clean(brief(after(plan_of(task), task, store), task=task.name))
    kept = text.replace(" %", f"{KEPT}%")  # no number is parted from its sign
    lines = textwrap.wrap(kept, width, subsequent_indent="  ", break_long_words=False)
    return [line.replace(KEPT, " ") for line in lines]


def after(plan: Plan, task: Task, store: Store) -> Plan:
    """Return `plan` with what a wall verdict says of the same cases, where one in `store` holds."""
    verdict = last_wall(task, store)
    if verdict is None or changed_since(task, verdict, store):
        return plan
    return replace(plan, verdict=verdict.answer, measured_need=verdict.need_cases)


def lines_before(evaluation: Evaluation, store: Store, *, may_cross: bool = False) -> list[str]:
    """Return the opening lines of a run over dev, as often asked as the task says.

    Raises HarnessError where something stands in its way. `may_cross`: internal cases may leave
    this machine.
    """
    if evaluation.split != "dev":
        return []
    if any(evaluation.has_other_repeats(name) for name in evaluation.candidates):
        return []
    _refuse(evaluation, store, may_cross=may_cross)
    return opening_lines(evaluation.task, store)


def _refuse(evaluation: Evaluation, store: Store, *, may_cross: bool) -> None:
    """Raise what would be raised before the first request, as far as the first case of each
    candidate tells, and the first that may not leave this machine.
    """
    first: dict[str, TrialId] = {}
    inside: dict[str, TrialId] = {}
    for trial in evaluation.trial_ids():
        first.setdefault(trial.candidate, trial)
        if INTERNAL in evaluation.cases[trial.case_id].tags:
            inside.setdefault(trial.candidate, trial)
    asks = evaluation.asks(dict.fromkeys([*first.values(), *inside.values()]))
    known = store.known_replies([ask.key for ask in asks.values()])
    new = [ask for ask in asks.values() if ask.key not in known]
    if not may_cross:
        stay_inside(new)
    for ask in new:
        if ask.refusal:
            raise UsageError(ask.refusal)
        ask.live.ready()


def plan_lines(task: Task, plan: Plan) -> list[str]:
    """Return the whole forecast, for `harness wall TASK --plan`."""
    from harness.core.forecast import forecast_lines

    s, sealed = task.settings, task.split("test")
    lines = [
        f"{plan.answer}  (nothing was asked; {s.profile} profile, target {percent(s.target)})",
        reason(plan),
        "",
        needs_line(plan),
        ship_line(plan),
    ]
    if plan.cases:
        lines += forecast_lines(
            plan.cases,
            plan.clusters,
            target=s.target,
            mid=s.mid,
            profile=s.profile,
            goal=s.goal,
            margin=s.margin,
            sealed_cases=len(sealed) or None,
            sealed_clusters=plan.sealed_clusters or None,
        )
    advice = meanwhile(plan)
    if advice:
        lines += ["", "useful meanwhile:", *(f"  - {line}" for line in advice)]
    return [clean(line) for line in lines]
