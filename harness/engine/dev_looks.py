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
from harness.core.words import count
from harness.engine.backends import BackendPool
from harness.engine.evaluate import Evaluation, fetch_all
from harness.engine.fetch import Silence
from harness.engine.plain_evals import PlainEvals
from harness.engine.tasks import Task
from harness.engine.tune_plan import Plan
from harness.errors import HarnessError
from harness.ports.manager import Plugins
from harness.ports.tuners import Checkpoint, TrainProgress
from harness.records import CurvePoint, Reply, Trial, digest
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
        names, left_out, primary = evals.scored, evals.left_out, task.settings.primary
    if not names:
        return None, f"dev is not looked at: no eval works without pytest ({_named(left_out)})"
    if primary in names:
        return primary, ""
    if primary == ALL:
        return ALL, f"looks at dev leave out {_named(left_out)}" if left_out else ""
    unknown = "a judge gives it" if primary in task.settings.judges else "it needs pytest"
    why = left_out.get(primary, unknown)
    return ALL, (
        f"looks at dev cannot use the primary score {primary!r} ({why}): they use whether all of "
        f"these pass: {', '.join(names)}"
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
        self._seen: Seen | None = None
        self._stopped = ""
        self.notes: list[str] = []

    # ------------------------------------------------------------ while it trains

    def progress(self, step: TrainProgress) -> None:
        """Keep a step's loss, and pass it on."""
        self._last = step
        if step.loss is not None:
            self._losses[step.step] = step.loss
            self._training.add_loss(step.step, step.loss)
        every = max(1, math.ceil(step.steps / LOSS_POINTS))
        is_point = step.step % every == 0 or step.step == step.steps
        if is_point and step.loss is not None:
            self._plain.append(self._point(step.step, after=step.step - every, score=None))
        self._report(step)

    def check(self, checkpoint: Checkpoint) -> bool:
        """Score a checkpoint, keep it if it is the best above 0, and tell whether to go on.

        A look that an earlier process made at this step is not made again.
        """
        step = checkpoint.step
        if step not in self._looks:
            score = self._score(checkpoint)
            after = max((s for s in self._looks if s < step), default=0)
            point = self._point(step, after=after, score=score)
            self._looks[step] = point
            # a look without a hit tells no checkpoint from another: none is chosen by it
            before = 0.0 if self.best is None else self._score_at(self.best)
            is_best = score is not None and score > before
            if is_best:
                self._keep(checkpoint)
            self._training.save_looks(tuple(self._looks.values()), best=self.best)
            self._looked(point, is_best)
        why = self._why_over(step)
        if why and step < checkpoint.steps:
            self._stopped = f"stopped after step {step} of {checkpoint.steps}: {why}"
        return not why

    def _why_over(self, step: int) -> str:
        scored = [p for s, p in sorted(self._looks.items()) if s <= step and p.score is not None]
        if not scored:
            return ""
        best = max(scored, key=lambda p: (p.score or 0.0, -p.step))
        if (best.score or 0.0) >= 1:  # no later one can be better, and ties go to the earlier
            return "every dev case of a look is right"
        worse = sum(p.step > best.step for p in scored)
        if worse < self._plan.patience:
            return ""
        return f"{count(worse, 'look')} at dev without a better score (`patience` in [tune])"

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
            self._seen = seen = look_at(
                self._plan, self._how, checkpoint.folder, plugins=self._plugins, store=self._store
            )
        except HarnessError as exc:  # hours of training are worth more than a look
            self.notes.append(f"step {checkpoint.step}: no look at dev: {exc}")
            return None
        if not seen.values:
            self.notes.append(f"step {checkpoint.step}: no dev case could be scored")
            return None
        return fmean(seen.values)

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

    @property
    def metrics(self) -> dict[str, float]:
        """What the artifact tells of them: empty where dev was not looked at.

        Losses are means over the steps since the look before: of the checkpoint that is kept, and
        of the last one, so that the two can be compared.
        """
        if not self.count:
            return {}
        told = {
            "dev_looks": float(self.count),
            "dev_cases": float(len(self._how.cases)),
            "dev_score": 0.0 if self.best is None else self._score_at(self.best),
        }
        if self.best is not None:
            told["best_step"] = float(self.best)
        for name, step in (("best", self.best), ("last", max(self._looks))):
            point = self._looks.get(step) if step is not None else None
            if point is not None and point.loss is not None:
                told[f"loss_at_{name}_look"] = point.loss
        return told

    @property
    def ending(self) -> list[str]:
        """What to say of them at the end: why they stopped the training, why none was chosen."""
        return [*([self._stopped] if self._stopped else []), *self._why_nothing()]

    def _why_nothing(self) -> list[str]:
        """Return what to say where no look saw a hit: what was seen, and what to look for."""
        scored = [p for _, p in sorted(self._looks.items()) if p.score is not None]
        if not scored or self.best is not None:
            return []
        every = "its one look" if len(scored) == 1 else f"each of {len(scored)} looks"
        said = [f"dev was 0 % at {every}. No checkpoint was chosen by it; the last one is kept."]
        limit = self._plan.candidate.decoding.max_tokens
        seen = self._seen
        if seen is not None and seen.cut:
            said.append(
                f"{seen.cut} of {seen.answered} replies of the last look were cut at max_tokens = "
                f"{limit}: raise it in [decoding], unless they should have ended long before."
            )
        if seen is not None and seen.example:
            said.append(f"for example {seen.example}")
        losses = [p.loss for p in scored if p.loss is not None]
        fell = f" (loss {losses[0]:.3g} at first, {losses[-1]:.3g} at last)" if losses else ""
        said.append(
            f"look for: too few steps or too low a learning_rate{fell}; a chat template that the "
            "base was not made for (harness model parity); an eval that is stricter than the "
            "references; max_tokens or a `stop` that ends replies early."
        )
        return said

    def best_folder(self) -> Path | None:
        """Return where the best artifact is, if that is not the last that was looked at."""
        if self.best is None or self.best == max(self._looks):
            return None
        return self._training.best(self.best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look saw: the scores of the cases that could be scored, how many replies came and how
    many of them were cut at `max_tokens`, and one that scored nothing.
    """

    values: tuple[float, ...]
    answered: int
    cut: int
    example: str = ""


def look_at(plan: Plan, how: LookPlan, folder: Path, *, plugins: Plugins, store: Store) -> Seen:
    """Return how the dev cases of `how` are answered by the artifact in `folder`.

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
    replies = [reply for _, reply in answered if reply]
    return Seen(
        values=tuple(_numbers([trial_value(t, how.primary) for t in [*scored, *lost]])),
        answered=len(replies),
        cut=sum(reply.finish_reason == "length" for reply in replies),
        example=_example(scored, replies, primary=how.primary),
    )


def _example(scored: Sequence[Trial], replies: Sequence[Reply], *, primary: str) -> str:
    """Return the first reply that scored nothing, with what was wrong with it."""
    for trial, reply in zip(scored, replies, strict=True):
        if trial_value(trial, primary) == 0:
            why = next((s.reason for s in trial.scores if s.value == 0 and s.reason), "it missed")
            return f"{trial.case_id}, whose reply was {reply.text[:80]!r}: {why.splitlines()[0]}"
    return ""


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [v for v in values if v is not None and not math.isnan(v)]
