"""The same prompts over several models, from recorded runs. Asks nobody, and counts no tries.

What it answers: would a stronger model do, and would a smaller one?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.pairs import Pair, delta_bounds
from harness.core.scoring import case_values
from harness.core.tries import try_estimates
from harness.core.usage import Usage
from harness.engine.ladder import Ladder, is_present, is_within_budget
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import Estimate, Run, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One prompt on one model. `delta` is against the same prompt on the task's own model, paired;
    None where that was not run whole. `cost_usd` is the mean a case.
    """

    model: str
    prompt: str
    run_id: str
    estimate: Estimate
    delta: Estimate | None
    missing: int
    input_tokens: float | None
    output_tokens: float | None
    latency_s: float | None
    cost_usd: float | None
    is_within_budget: bool
    is_own: bool


def models_named(text: str, task: Task) -> list[str]:
    """Return the models of a list as `local:a,openai:b`, from small to large as it says them.

    The task's own model is measured too: first, where the list does not place it.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        scheme, colon, model = name.partition(":")
        if not (scheme and colon and model):
            raise UsageError(f"--models: {name!r} is not SCHEME:MODEL, as in local:smollm2-135m")
    if not names:
        raise UsageError("--models names no model; write them from small to large: a:x,b:y")
    own = task.settings.model
    return names if own in names else [own, *names]


def candidate_name(prompt: str, model: str, *, own: str) -> str:
    """Return what the candidate of a prompt on a model is called."""
    return prompt if model == own else f"{prompt}@{model}"


def model_rungs(task: Task, ladder: Ladder, models: Sequence[str]) -> list[Rung]:
    """Return the complete recorded runs of prompts on `models`, in their order, on the dev cases
    that every one of them scored. Prompts are those of now: two texts are not one prompt.
    """
    runs = [
        (run, spent)
        for run, spent in zip(ladder.runs, ladder.usages, strict=True)
        if run.is_complete
        and run.candidate.prompt is not None
        and run.candidate.artifact is None
        and run.candidate.backend in models
        and is_present(run, task)
    ]
    values = {run.id: case_values(run, task.settings.primary) for run, _ in runs}
    cases = [
        c for c in task.split("dev") if all(v.get(c.id, 0.0) is not None for v in values.values())
    ]
    if not cases:
        return []
    clusters = [c.cluster for c in cases]
    columns = {i: [_known(v.get(c.id)) for c in cases] for i, v in values.items()}
    own = {
        _asked(run): columns[run.id]
        for run, _ in runs
        if run.candidate.backend == task.settings.model
    }
    ordered = sorted(runs, key=lambda pair: models.index(pair[0].candidate.backend))
    return [
        _rung(task, run, spent, columns[run.id], own=own, clusters=clusters)
        for run, spent in ordered
    ]


def _rung(
    task: Task,
    run: Run,
    spent: Usage,
    scores: Sequence[float | None],
    *,
    own: Mapping[str, Sequence[float | None]],
    clusters: Sequence[str],
) -> Rung:
    import numpy as np

    table = np.array([math.nan if s is None else s for s in scores])[:, None]
    is_own = run.candidate.backend == task.settings.model
    beside = None if is_own else own.get(_asked(run))
    pair = beside and Pair(name="", candidate=scores, baseline=beside, clusters=clusters)
    return Rung(
        model=run.candidate.backend,
        prompt=run.candidate.prompt or "",
        run_id=run.id,
        estimate=try_estimates(table, clusters)[0],
        delta=delta_bounds(pair) if pair else None,
        missing=sum(s is None for s in scores),
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        latency_s=spent.latency_s,
        cost_usd=None if spent.cost_usd is None else spent.cost_usd / max(len(run.trials), 1),
        is_within_budget=is_within_budget(task, spent),
        is_own=is_own,
    )


def _asked(run: Run) -> str:
    """Return what is asked, of whichever model: one prompt may stand in two decodings."""
    return digest([run.candidate.prompt_digest, run.candidate.decoding])


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
