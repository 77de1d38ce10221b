"""What a tuned model should still do beside its task: a small pack of cases, base against tuned.

Knows nothing of what the model was tuned for. The pack (instructions, formats, plain facts, the
simplest sums, harmless and harmful requests; words of our own) lies in `off_task_pack/`, and every
case is judged by checks, not by a model. It is a watch guard of a release: 42 cases can show a
harm, and never that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean

from harness.core.release import Guard, align
from harness.core.scoring import trial_value
from harness.core.words import listed, percent
from harness.engine.backends import BackendPool
from harness.engine.candidates import backend_options, resolve_candidate
from harness.engine.evaluate import Evaluation, fetch_all
from harness.engine.fetch import Progress, Silence
from harness.engine.plain_evals import PlainEvals
from harness.engine.tasks import CHECKS, Task, load_task
from harness.errors import HarnessError
from harness.records import Artifact, Candidate, LedgerEntry, Trial
from harness.store.store import Store

NAME = "off-task"
FOLDER = Path(__file__).with_name("off_task_pack")
PROMPT = "general"
WAIVED = "off-task pack"
"""The key of a line of kind `waiver`: what a release is not watched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffTask:
    """What came of it: the guard of a release, None where nothing was asked, with `text` why; where
    it was, `text` is the sum of it. `base` and `tuned` are scores by case id."""

    guard: Guard | None
    text: str
    base: Mapping[str, float | None]
    tuned: Mapping[str, float | None]


@cache
def pack() -> Task:
    """Return the pack: a task like any other, without a model."""
    return load_task(FOLDER)


def off_task(
    task: Task,
    candidate: Candidate,
    *,
    artifact: Artifact,
    store: Store,
    pool: BackendPool,
    progress: Progress | None = None,
) -> OffTask:
    """Ask a tuned candidate and its own base what the pack holds, under the same plain prompt.

    Replies are stored, so that the next release asks nothing anew of the same two.
    """
    settings = task.settings.release
    if settings.off_task is False:
        return _skipped(f"waived: {settings.off_task_reason}")
    scheme = (artifact.backend or artifact.base).partition(":")[0]
    if scheme != artifact.base.partition(":")[0]:
        return _skipped(
            f"not asked: {artifact.backend} is no tuned form of {artifact.base}, and knows nothing "
            "but its task"
        )
    base, tuned = _arms(task, candidate, artifact)
    try:
        outside = [c.backend for c in (base, tuned) if pool.get(c, folder=FOLDER).is_external]
        if outside and settings.off_task is None:
            return _skipped(
                f"not asked: {listed(sorted(set(outside)))} would be sent {len(pack().cases)} "
                "requests, outside. Ask for it: off_task = true in [release]"
            )
        found = _values(base, tuned, store=store, pool=pool, progress=progress or Silence())
    except HarnessError as exc:
        return _skipped(f"not asked: the base cannot be compared with: {exc}")
    guard = Guard(
        pair=align(NAME, found[1], baseline=found[0], clusters={c: c for c in found[0]}),
        margin=settings.off_task_margin,
        is_must_hold=False,
    )
    return OffTask(guard=guard, text=_summary(*found), base=found[0], tuned=found[1])


def waiver_entry(task: Task, *, at: str) -> LedgerEntry | None:
    """Return the line of the ledger that says that a release of `task` is not watched."""
    if task.settings.release.off_task is not False:
        return None
    reason = task.settings.release.off_task_reason
    payload = {"waived": WAIVED, "reason": reason, "policy": task.policy_digest}
    text = f"{WAIVED}: {reason}"
    return LedgerEntry(kind="waiver", task=task.name, at=at, payload=payload, text=text)


def _skipped(why: str) -> OffTask:
    return OffTask(guard=None, text=f"{NAME}: {why}", base={}, tuned={})


def _arms(task: Task, candidate: Candidate, artifact: Artifact) -> tuple[Candidate, Candidate]:
    """Return the base and the tuned candidate, each under the pack's own prompt and decoding."""
    asked = resolve_candidate(pack(), f"{PROMPT}@{artifact.base}", artifact_digest=str)
    is_one_server = candidate.backend.partition(":")[0] == artifact.base.partition(":")[0]
    base = replace(
        asked,
        name="base",
        base_url=candidate.base_url if is_one_server else None,
        options=backend_options(task, artifact.base),
    )
    tuned = replace(
        asked,
        name="tuned",
        backend=candidate.backend,
        artifact=candidate.artifact,
        base_url=candidate.base_url,
        options=candidate.options,
        epoch=candidate.epoch,
    )
    return base, tuned


def _values(
    base: Candidate, tuned: Candidate, *, store: Store, pool: BackendPool, progress: Progress
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return the scores of both by case: None where a case has no answer."""
    evaluation = Evaluation(pack(), [base, tuned], split="dev", pool=pool)
    trials = evaluation.trial_ids()
    fetch_all([(evaluation, trials)], store=store, progress=progress)
    found: dict[str, dict[str, float | None]] = {base.name: {}, tuned.name: {}}
    with PlainEvals(pack()) as evals:
        for trial in trials:
            outcome, case = evaluation.outcomes[trial], evaluation.cases[trial.case_id]
            scores = evals.scores(case, outcome.reply).scores if outcome.reply else ()
            judged = Trial(case_id=trial.case_id, scores=scores, fault=outcome.fault)
            value = trial_value(judged, CHECKS)
            is_known = value is not None and not math.isnan(value)
            found[trial.candidate][trial.case_id] = value if is_known else None
    return found[base.name], found[tuned.name]


def _summary(base: Mapping[str, float | None], tuned: Mapping[str, float | None]) -> str:
    def share(values: Mapping[str, float | None]) -> str:
        known = [v for v in values.values() if v is not None]
        return percent(fmean(known)) if known else "nothing"

    # an answer that never came is no loss: it was not measured
    both = [(c, b, t) for c in base if (b := base[c]) is not None and (t := tuned[c]) is not None]
    lost = [c for c, b, t in both if b > t]
    won = [c for c, b, t in both if t > b]
    text = f"{NAME}: {share(tuned)} of {len(base)} cases, its base {share(base)}"
    text += f"; {len(base) - len(both)} without an answer" if len(both) < len(base) else ""
    text += f"; lost: {', '.join(lost)}" if lost else "; nothing lost"
    return text + (f"; won: {', '.join(won)}" if won else "")
