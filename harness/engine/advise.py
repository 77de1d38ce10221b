"""Gathers what `core.advice` answers from. Knows nothing of how the answer is reached."""

from __future__ import annotations

import math

from harness.core.advice import Evidence, Measured
from harness.core.bounds import mean_bounds
from harness.core.scoring import case_values
from harness.engine.ladder import last_wall, read_ladder, why_not_licensed
from harness.engine.tasks import Task
from harness.engine.tune import leaked_inputs
from harness.records import ReleaseVerdict, Run, from_plain
from harness.store.store import Store


def gather(task: Task, store: Store) -> Evidence:
    """Return what was measured of `task` and what its `[advise]` states."""
    wall = last_wall(task, store)
    stale = why_not_licensed(task, wall) if wall is None or wall.answer == "WALL" else None
    ladder = read_ladder(task, store)
    usages = {r.candidate.name: u for r, u in zip(ladder.runs, ladder.usages, strict=True)}
    released = last_release(task, store)
    replayed = next((r for r in ladder.runs if r.candidate.backend.startswith("replay:")), None)
    classical = next((r for r in ladder.runs if r.candidate.backend.startswith("sklearn:")), None)
    return Evidence(
        target=task.settings.target,
        wall=wall,
        why_stale=stale,
        training_rows=sum(c.reference is not None for c in task.split("train")),
        leaks=len(leaked_inputs(task)),
        people=_measured(task, replayed),
        classical=_measured(task, classical),
        release=released,
        prompt_usage=usages.get(wall.best) if wall and wall.best else None,
        tuned_usage=usages.get(released.comparison.candidate) if released else None,
        facts=task.settings.advise,
    )


def last_release(task: Task, store: Store) -> ReleaseVerdict | None:
    """Return the newest release verdict of `task`."""
    entries = store.ledger(task=task.name, kind="release")
    return from_plain(ReleaseVerdict, entries[-1].payload) if entries else None


def _measured(task: Task, run: Run | None) -> Measured | None:
    if run is None:
        return None
    values = {
        c: 0.0 if math.isnan(v) else v
        for c, v in case_values(run, task.settings.primary).items()
        if v is not None
    }
    if not values:
        return None
    clusters = {c.id: c.cluster for c in task.split("dev")}
    estimate = mean_bounds(list(values.values()), [clusters[c] for c in values])
    return Measured(name=run.candidate.name, run_id=run.id, estimate=estimate)
