"""What a tune would do: rows, tokens, parity, estimate, licence. Trains nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.parity import IGNORED
from harness.engine.backends import BackendPool
from harness.engine.parity_check import ROWS
from harness.engine.project import Project
from harness.engine.tune_plan import Plan, why_not_trained
from harness.engine.tune_ready import make_ready
from harness.engine.tune_recipe import recipe_named
from harness.errors import HarnessError
from harness.ports.manager import Plugins
from harness.ports.tuners import TuneEstimate
from harness.records import Json, ParityFinding, PreparedRow
from harness.store.trainings import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How many tokens the rows have: `learnt` of the replies, `given` of the prompts."""

    given: int
    learnt: int
    longest: int
    longest_case: str
    without_learnt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One training, as it would be. `refusals` say what would stop it: empty where it could start.

    `tokens`, `estimate` and `parity` are None where they are not known, which `refusals` or `notes`
    explain.
    """

    name: str
    tuner: str
    base: str
    prompt: str
    start: str | None
    rows: int
    dropped: tuple[str, ...]
    recipe: Mapping[str, Json]
    tokens: Tokens | None = None
    estimate: TuneEstimate | None = None
    parity_rows: int = 0
    parity: tuple[ParityFinding, ...] | None = None
    check_every: int | None = None
    check_cases: int = 0
    licence: str = ""
    notes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def preview(
    plan: Plan,
    *,
    project: Project,
    plugins: Plugins,
    pool: BackendPool,
    why_unlicensed: str | None,
) -> Preview:
    """Return what training `plan` would be. Everything that would refuse it is among `refusals`."""
    refusals = [why_unlicensed] if why_unlicensed else []
    refusals += why_not_trained(plan)
    given = plan.licence
    shown = Preview(
        name=plan.name,
        tuner=plan.tuner_name,
        base=plan.candidate.backend,
        prompt=plan.candidate.prompt or "",
        start=plan.start.digest if plan.start else None,
        rows=len(plan.rows),
        dropped=tuple(d.text for d in plan.dropped),
        recipe=plan.recipe,
        licence=given.override or (f"wall {given.wall_verdict}" if given.wall_verdict else "none"),
        refusals=tuple(refusals),
    )
    if not plan.rows:
        return shown
    tuner = plugins.owner("harness_tuners", plan.tuner_name)()
    with tempfile.TemporaryDirectory(prefix="harness-plan-") as folder:
        place = Training(folder=Path(folder))
        place.out.mkdir()
        place.state.mkdir()
        try:
            ready = make_ready(
                plan, tuner=tuner, training=place, project=project, pool=pool, rows=ROWS
            )
        except HarnessError as exc:
            return replace(shown, refusals=(*shown.refusals, str(exc)))
        notes, estimate = list(ready.looks.notes), None
        if ready.findings is None:
            why = getattr(tuner, "why_no_tokens", "") or "its rows become no token ids"
            notes.append(f"parity is not checked: {why}")
        if callable(getattr(tuner, "estimate", None)):
            try:
                with recipe_named(plan.recipe_file, folder=plan.task.folder):
                    estimate = tuner.estimate(ready.job, ready.prepared)
            except HarnessError as exc:
                refusals.append(str(exc))
        else:
            notes.append(f"{plan.tuner_name} gives no estimate of time, memory and money")
    return replace(
        shown,
        rows=len(ready.plan.rows),
        dropped=tuple(d.text for d in ready.plan.dropped),
        tokens=count_tokens(ready.prepared),
        estimate=estimate,
        parity_rows=min(ROWS, len(ready.prepared)),
        parity=ready.findings,
        check_every=ready.looks.every,
        check_cases=len(ready.looks.cases),
        notes=tuple(notes),
        refusals=tuple(refusals),
    )


def count_tokens(rows: Sequence[PreparedRow]) -> Tokens | None:
    """Return the tokens of `rows`, both sides of a preference; None where there are none."""
    if not rows:
        return None
    learnt = [_learnt(r.labels) + _learnt(r.rejected_labels) for r in rows]
    lengths = [max(len(r.input_ids), len(r.rejected_ids)) for r in rows]
    longest = max(range(len(rows)), key=lengths.__getitem__)
    return Tokens(
        given=sum(len(r.input_ids) + len(r.rejected_ids) for r in rows) - sum(learnt),
        learnt=sum(learnt),
        longest=lengths[longest],
        longest_case=rows[longest].case_id,
        without_learnt=sum(not n for n in learnt),
    )


def _learnt(labels: Sequence[int]) -> int:
    return sum(label != IGNORED for label in labels)
