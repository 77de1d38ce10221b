"""A pilot: nested subsets of the rows, each trained and scored on dev. Knows no verdict.

The one training that needs no wall (docs/decisions). Its artifacts are marked: they are found by
digest alone, never by a name, and never gated or released.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.core.learning import LearningCurve, learning_curve
from harness.core.scoring import table_values
from harness.engine.backends import BackendPool
from harness.engine.project import Project
from harness.engine.tune import known_artifact, tune
from harness.engine.tune_plan import Plan
from harness.errors import HarnessError, NotEnoughEvidence
from harness.ports.manager import Plugins
from harness.ports.tuners import TrainProgress
from harness.records import Artifact, LedgerEntry, Run, TrainingRow, digest
from harness.store.store import Store

SIZES = 4
LEAST_ROWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One subset: what was trained and how it scored. `seconds` is None where it was known."""

    rows: int
    artifact: str
    run_id: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The stages, the curve, and why it ended early where it did."""

    stages: tuple[Stage, ...]
    curve: LearningCurve
    available: int
    stopped: str = ""


class _TimeIsUp(HarnessError):
    """The minutes are over, in the midst of a training."""


class _Watch:
    """A listener to a training that ends it when the time is over."""

    def __init__(self, report: Callable[[TrainProgress], None], deadline: float) -> None:
        self._report, self._deadline = report, deadline
        self.is_late = False

    def __call__(self, step: TrainProgress) -> None:
        self._report(step)
        if time.monotonic() > self._deadline and step.step < step.steps:
            self.is_late = True
            raise _TimeIsUp("the minutes are over")


def subset_sizes(available: int, *, most: int) -> tuple[int, ...]:
    """Return how many rows each stage has: a half of all (or `most`), and that halved thrice.

    Raises NotEnoughEvidence where there are not two sizes of four rows or more.
    """
    largest = min(available // 2, most)
    sizes = sorted({largest >> k for k in range(SIZES)})
    sizes = [n for n in sizes if n >= LEAST_ROWS]
    if len(sizes) < 2:
        raise NotEnoughEvidence(
            f"a pilot trains on a half of the rows and less; {available} rows (at most {most} of "
            f"them) give no two sizes of {LEAST_ROWS} rows or more. Add rows to train."
        )
    return tuple(sizes)


def nested(rows: Sequence[TrainingRow], n: int, *, seed: int) -> tuple[TrainingRow, ...]:
    """Return `n` rows, in their order; a larger n holds those of a smaller one."""
    chosen = {r.case_id for r in sorted(rows, key=lambda r: digest([seed, r.case_id]))[:n]}
    return tuple(r for r in rows if r.case_id in chosen)


def run_pilot(
    plan: Plan,
    *,
    most_rows: int,
    minutes: float,
    score: Callable[[Artifact], Run],
    project: Project,
    plugins: Plugins,
    pool: BackendPool,
    store: Store,
    report: Callable[[TrainProgress], None],
    at: Callable[[], str],
) -> Pilot:
    """Train and score each subset, the smallest first, until all are done or `minutes` are over.

    `score` gives the run over dev of an artifact. A subset that was trained before, by the same
    recipe, is not trained again. Raises what `tune` raises, and NotEnoughEvidence where the time
    was over before the second subset.
    """
    task, available = plan.task, len(plan.rows)
    sizes = subset_sizes(available, most=most_rows)
    deadline = time.monotonic() + 60 * minutes
    stages: list[Stage] = []
    runs: list[Run] = []
    stopped = ""
    for n in sizes:
        part = replace(
            plan,
            rows=nested(plan.rows, n, seed=plan.seed),
            name=f"{plan.name}-pilot-{n}",
            is_pilot=True,
        )
        paces = [s.seconds / s.rows for s in stages if s.seconds is not None]
        if paces and time.monotonic() + paces[-1] * n > deadline:
            stopped = f"{n} rows would have taken longer than the {minutes:g} minutes allow"
            break
        artifact = known_artifact(part, project=project, plugins=plugins, pool=pool, store=store)
        seconds = None
        if artifact is None:
            began = time.monotonic()
            watch = _Watch(report, deadline)
            try:
                artifact = tune(
                    part, project=project, plugins=plugins, pool=pool, store=store, report=watch,
                    at=at,
                )  # fmt: skip
            except Exception:  # a tuner is a stranger: it may wrap what its listener raised
                if not watch.is_late:
                    raise
                stopped = f"the {minutes:g} minutes were over while training on {n} rows"
                break
            seconds = time.monotonic() - began
        run = score(artifact)
        runs.append(run)
        stages.append(Stage(rows=n, artifact=artifact.digest, run_id=run.id, seconds=seconds))
    if len(stages) < 2:
        raise NotEnoughEvidence(
            f"no learning curve: {stopped}. Give it more: --minutes, or a smaller --rows."
        )
    curve = _curve(plan, stages, runs)
    store.record(
        LedgerEntry(
            kind="pilot",
            task=task.name,
            at=at(),
            payload={"stages": stages, "curve": curve, "rows": available, "recipe": plan.recipe},
            text=f"learning curve over {', '.join(str(s.rows) for s in stages)} rows of {available}"
            + (f"; {stopped}" if stopped else ""),
        )
    )
    return Pilot(stages=tuple(stages), curve=curve, available=available, stopped=stopped)


def _curve(plan: Plan, stages: Sequence[Stage], runs: Sequence[Run]) -> LearningCurve:
    cases = {c.id: c for c in plan.task.split("dev")}
    kept, table = table_values(runs, plan.task.settings.primary, cases=list(cases))
    if not kept:
        raise NotEnoughEvidence("no dev case has a primary score: there is nothing to learn from")
    return learning_curve(
        [s.rows for s in stages],
        np.asarray(table),
        [cases[c].cluster for c in kept],
        available=len(plan.rows),
        seed=plan.seed,
    )
