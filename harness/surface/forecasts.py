"""What a task's cases could show, as lines for a terminal. Knows nothing of replies or scores."""

from __future__ import annotations

import shutil
import textwrap

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
from harness.engine.tasks import Task
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


def opening_lines(task: Task) -> list[str]:
    """Return the few lines that a run over dev begins with."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    first, *more = (clean(line) for line in brief(plan_of(task), task=task.name))
    kept = first.replace(" %", f"{KEPT}%")  # no number is parted from its sign
    lines = textwrap.wrap(kept, width, subsequent_indent="  ", break_long_words=False)
    return [*(line.replace(KEPT, " ") for line in lines), *(f"  {line}" for line in more)]


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
