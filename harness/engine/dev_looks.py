"""Looks at dev during a training: the task's own evals on replies of a checkpoint.

Knows nothing of trainers. Choosing a checkpoint by them is a choice on dev: their number stands in
the artifact, and only the sealed cases tell what it is worth. Replies are stored under the digest
of the checkpoint's files, so what was asked of the artifact that is kept is not asked again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, rmtree
from statistics import fmean

from harness.core.scoring import ALL, trial_value
from harness.engine.backends import BackendPool
from harness.engine.evaluate import Evaluation, fetch_all
from harness.engine.fetch import Silence
from harness.engine.plain_evals import PlainEvals
from harness.engine.tasks import Task
from harness.engine.tune_plan import Plan
from harness.errors import HarnessError
from harness.ports.manager import Plugins
from harness.ports.protocols import Checkpoint, TrainProgress
from harness.records import CurvePoint, Trial, digest
from harness.store.artifacts import folder_digest
from harness.store.store import Store
from harness.store.trainings import Training

LOOKS = 5
LOSS_POINTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPlan:
    """How dev will be looked at: after each `every` steps, on `cases`, by the score `primary`.

    `every` is None where it will not be; `notes` say why, or what is used instead of what.
    """

    every: int | None = None
    cases: tuple[str, ...] = ()
    primary: str = ALL
    notes: tuple[str, ...] = ()


def look_plan(
    plan: Plan,
    *,
    steps: int | None,
    can_look: bool = True,
    is_external: bool = False,
    makes: str = "replies",
) -> LookPlan:
    """Return how dev is looked at while `plan` is trained in `steps` steps (None: not known)."""
    every, notes = plan.check_every, []
    if plan.is_pilot or every == 0:
        return LookPlan()
    if makes != "replies":
        why = f"{plan.tuner_name} makes a {makes}, which gives no replies: dev is not looked at"
        return LookPlan(notes=(why,))
    if not can_look:
        said = (f"{plan.tuner_name} shows no checkpoints: dev is not looked at",) if every else ()
        return LookPlan(notes=said)
    if every is None:
        if steps is None or is_external:
            why = "requests would leave this machine" if is_external else "its steps are not known"
            return LookPlan(notes=(f"dev is not looked at ({why}); ask for it: check_every",))
        every = math.ceil(steps / LOOKS)
    primary, note = look_score(plan.task)
    if primary is None:
        return LookPlan(notes=(note,))
    cases = plan.task.split("dev")
    ranked = sorted(cases, key=lambda c: digest(["look", c.id]))[: plan.check_cases]
    if not ranked:
        return LookPlan(notes=("there is no dev case to look at",))
    if len(ranked) < len(cases):
        notes.append(f"a look asks {len(ranked)} of {len(cases)} dev cases, always the same ones")
    chosen = {c.id for c in ranked}
    return LookPlan(
        every=every,
        cases=tuple(c.id for c in cases if c.id in chosen),
        primary=primary,
        notes=(*notes, *([note] if note else [])),
    )


def look_score(task: Task) -> tuple[str | None, str]:
    """Return which score a look uses, and what must be said of it: None where there is none.

    The primary score, where its eval works outside pytest; else whether all pass that do.
    """
    with PlainEvals(task) as evals:
        names, left_out, primary = evals.names, evals.left_out, task.settings.primary
    has_checks = "checks" in task.builtin_names
    if not names and not has_checks:
        return None, f"dev is not looked at: no eval works without pytest ({_named(left_out)})"
    if primary in names or (primary == "checks" and has_checks):
        return primary, ""
    if primary == ALL:
        return ALL, f"looks at dev leave out {_named(left_out)}" if left_out else ""
    why = left_out.get(primary, "it is of all replies together, not of one")
    return ALL, (
        f"looks at dev cannot use the primary score {primary!r} ({why}): they use whether all of "
        f"these pass: {', '.join([*names, *(['checks'] if has_checks else [])])}"
    )


def _named(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "there are none"


class DevLooks:
    """Follows one training: its losses, its looks at dev, and the best artifact so far."""

    def __init__(
        self,
        plan: Plan,
        how: LookPlan,
        *,
        training: Training,
        plugins: Plugins,
        store: Store,
        report: Callable[[TrainProgress], None],
        looked: Callable[[CurvePoint, bool], None],
    ) -> None:
        self._plan, self._how, self._training = plan, how, training
        self._plugins, self._store = plugins, store
        self._report, self._looked = report, looked
        known, self.best = training.looks()
        self._looks = {p.step: p for p in known}
        self._losses = training.losses()
        self._plain: list[CurvePoint] = []
        self._last: TrainProgress | None = None
        self.notes: list[str] = []

    # ------------------------------------------------------------ while it trains

    def progress(self, step: TrainProgress) -> None:
        """Keep a step's loss, and pass it on."""
        self._last = step
        self._losses[step.step] = step.loss
        self._training.add_loss(step.step, step.loss)
        every = max(1, math.ceil(step.steps / LOSS_POINTS))
        if step.step % every == 0 or step.step == step.steps:
            self._plain.append(self._point(step.step, after=step.step - every, score=None))
        self._report(step)

    def check(self, checkpoint: Checkpoint) -> bool:
        """Score a checkpoint, keep it if it is the best, and tell whether to go on.

        A look that an earlier process made at this step is not made again.
        """
        step = checkpoint.step
        if step not in self._looks:
            score = self._score(checkpoint)
            after = max((s for s in self._looks if s < step), default=0)
            point = self._point(step, after=after, score=score)
            self._looks[step] = point
            is_best = score is not None and (self.best is None or score > self._score_at(self.best))
            if is_best:
                self._keep(checkpoint)
            self._training.save_looks(tuple(self._looks.values()), best=self.best)
            self._looked(point, is_best)
        return not self._is_over(step)

    def _is_over(self, step: int) -> bool:
        scored = [p for s, p in sorted(self._looks.items()) if s <= step and p.score is not None]
        if not scored:
            return False
        best = max(scored, key=lambda p: (p.score or 0.0, -p.step))
        if (best.score or 0.0) >= 1:  # no later one can be better, and ties go to the earlier
            return True
        return sum(p.step > best.step for p in scored) >= self._plan.patience

    def _score_at(self, step: int) -> float:
        return self._looks[step].score or 0.0

    def _keep(self, checkpoint: Checkpoint) -> None:
        place = self._training.best(checkpoint.step)
        rmtree(place, ignore_errors=True)
        copytree(checkpoint.folder, place)
        self.best = checkpoint.step

    def _point(self, step: int, *, after: int, score: float | None) -> CurvePoint:
        losses = [loss for s, loss in self._losses.items() if after < s <= step]
        return CurvePoint(
            step=step,
            loss=fmean(losses) if losses else None,
            score=score,
            tokens=self._last.tokens if self._last else 0,
            seconds=self._last.seconds if self._last else 0.0,
        )

    def _score(self, checkpoint: Checkpoint) -> float | None:
        """Return the mean score, None with a note where the checkpoint could not be asked."""
        try:
            values = checkpoint_scores(
                self._plan, self._how, checkpoint.folder, plugins=self._plugins, store=self._store
            )
        except HarnessError as exc:  # hours of training are worth more than a look
            self.notes.append(f"step {checkpoint.step}: no look at dev: {exc}")
            return None
        if not values:
            self.notes.append(f"step {checkpoint.step}: no dev case could be scored")
            return None
        return fmean(values)

    # ------------------------------------------------------------ afterwards

    @property
    def count(self) -> int:
        """How often dev was looked at."""
        return sum(p.score is not None for p in self._looks.values())

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """The looks; where there were none, the loss at about twenty steps."""
        if any(p.score is not None for p in self._looks.values()):
            return tuple(p for _, p in sorted(self._looks.items()))
        return tuple(self._plain)

    def best_folder(self) -> Path | None:
        """Return where the best artifact is, if that is not the last that was looked at."""
        if self.best is None or self.best == max(self._looks):
            return None
        return self._training.best(self.best)


def checkpoint_scores(
    plan: Plan, how: LookPlan, folder: Path, *, plugins: Plugins, store: Store
) -> list[float]:
    """Return the score of each of the dev cases that could be scored, by the artifact in `folder`.

    Raises what making the backend raises.
    """
    task = plan.task
    tuned = replace(plan.candidate, name=plan.name, artifact=folder_digest(folder))
    pool = BackendPool(plugins, artifact_folder=lambda _: folder)
    try:
        once = 1 if task.settings.repeat_verdict == "mean" else None
        evaluation = Evaluation(
            task, [tuned], split="dev", pool=pool, case_ids=how.cases, repeats=once
        )
        trials = evaluation.trial_ids()
        fetch_all([(evaluation, trials)], store=store, progress=Silence())
    finally:
        pool.close()
    answered = [(t, o.reply) for t in trials if (o := evaluation.outcomes[t]).reply is not None]
    faults = [evaluation.outcomes[t].fault for t in trials]
    with PlainEvals(task) as evals:
        found = evals.scores_of((evaluation.cases[t.case_id], r) for t, r in answered if r)
        scored = [
            Trial(case_id=t.case_id, scores=each.scores, fault=each.fault)
            for (t, _), each in zip(answered, found, strict=True)
        ]
    lost = [Trial(case_id="", fault=f) for f in faults if f is not None]
    values = [trial_value(t, how.primary) for t in [*scored, *lost]]
    return _numbers(values)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [v for v in values if v is not None and not math.isnan(v)]
