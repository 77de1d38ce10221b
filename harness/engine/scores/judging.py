"""Tables of scores as evidence: what the core judges, and what the table cannot show.

Knows no file format, and nothing of where the verdict goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from harness.core.bounds import Array, Codes
from harness.core.pairs import OVERLAP_NEEDED, Pair, compare, slice_pair
from harness.core.release import Guard, judge_release
from harness.core.tries import TryScores
from harness.core.wall import WallInput, judge_wall
from harness.core.words import percent
from harness.engine.release import SLICE_MARGIN, SMALLEST_SLICE
from harness.engine.scores.table import Column, ScoreTable
from harness.errors import Refused, UsageError
from harness.records import (
    Comparison,
    LedgerEntry,
    ReleaseVerdict,
    Split,
    WallVerdict,
    digest,
)

UNSEEN = ("positive control", "labels")
NOT_IN_A_GATE = (
    "positive control (does the grader pass the reference answers?)",
    "parity of training and serving",
    "latency and cost budgets",
    "data boundary",
    "judge certificates",
)


def name_of(table: ScoreTable) -> str:
    """Return what the ledger calls the eval: apart from every task of a project."""
    return f"scores:{table.task}" if table.task else "scores"


# ---------------------------------------------------------------- the wall


def wall_of(
    table: ScoreTable,
    *,
    target: float,
    metric: str | None = None,
    profile: str = "standard",
    mid: float = 0.05,
    model: str | None = None,
    reference: str | None = None,
    waivers: Mapping[str, str] | None = None,
) -> WallVerdict:
    """Return the verdict on the tries of a table. Raises UsageError.

    Families count where every try has one. `reference` names the try that is the reference
    answers: the positive control. Tries on another model than `model` (by default the one with
    most tries) are shown and never counted.
    """
    chosen = table.metric(metric)
    control = table.column(reference, what="--reference") if reference else None
    columns = [c for c in table.columns if c is not control]
    if not columns:
        raise UsageError("the scores hold no try but the reference")
    main = _main_model(columns, model)
    # a case that the metric speaks of in no try is not missing: it has no such score
    kept = np.flatnonzero(table.asked(chosen))
    rungs = [_rung(c, chosen, kept, main=main) for c in columns]
    has_families = all(c.family for c, r in zip(columns, rungs, strict=True) if r.is_countable)
    others = [r for r in rungs if r.is_other_model]
    return judge_wall(
        WallInput(
            task=name_of(table),
            tries=rungs,
            stronger=[r for r in others if not np.isnan(np.asarray(r.scores)).any()],
            target=target,
            clusters=[table.clusters[row] for row in kept] if table.has_clusters else None,
            mid=mid,
            profile=profile,
            reference_scores=None if control is None else _on(control, chosen, kept),
            waivers=waivers or {},
            model=main,
            unseen=UNSEEN if has_families else ("coverage", *UNSEEN),
            inputs_digest=digest([table.cases, table.contents, table.clusters]),
            policy_digest=digest([target, mid, profile, chosen, dict(waivers or {})]),
        )
    )


def not_checked_by_wall(table: ScoreTable, verdict: WallVerdict) -> list[str]:
    """Return what the verdict does not rest on, because the scores do not show it."""
    found = [c.name for c in verdict.conditions if c.holds is None and c.name in UNSEEN]
    if any(t.is_counted and not t.family for t in verdict.tries):
        found.insert(0, "families")
    if not any(c.replies_digest or c.prompt_digest for c in table.columns):
        found.append("whether the tries are distinct (each name was taken as one)")
    if not any(c.model for c in table.columns):
        found.append("whether all tries are on one model")
    if not table.has_clusters:
        found.append("clusters (each case was taken as its own source)")
    return [*found, "judge certificates", "latency and cost budgets"]


def _main_model(columns: Sequence[Column], wanted: str | None) -> str:
    models = Counter(c.model for c in columns if c.model)
    if wanted is None:
        return models.most_common(1)[0][0] if models else ""
    if wanted not in models:
        known = ", ".join(models) or "none: the scores do not name models"
        raise UsageError(f"--model {wanted!r} is not in the scores. Known: {known}")
    return wanted


def _on(column: Column, metric: str, rows: Codes) -> Array | None:
    return column.scores[metric][rows] if metric in column.scores else None


def _rung(column: Column, metric: str, rows: Codes, *, main: str) -> TryScores:
    is_other = bool(column.model) and column.model != main
    note = f"other model: {column.model}" if is_other else ""
    scores = _on(column, metric, rows)
    if scores is None:
        note, scores = f"has no {metric}", np.full(len(rows), np.nan)
    return TryScores(
        name=column.name,
        family=column.family,
        scores=scores,
        # the replies of a try that is not counted say nothing of one that is
        prompt_digest="" if note else column.prompt_digest,
        replies_digest="" if note else column.replies_digest,
        is_countable=not note,
        is_other_model=is_other and metric in column.scores,
        note=note,
    )


# ---------------------------------------------------------------- two candidates


def pair_of(
    baseline: tuple[ScoreTable, Column],
    candidate: tuple[ScoreTable, Column],
    *,
    metric: str,
) -> Pair:
    """Return a metric of two candidates over the cases that either has; what one lacks is missing.

    Raises Refused where less than 95 % of the cases are shared or a case's content differs, and
    UsageError where one has no such metric.
    """
    arms: list[dict[str, float]] = []
    for table, column in (baseline, candidate):
        if metric not in column.scores:
            known = ", ".join(column.scores)
            raise UsageError(f"{column.name!r} has no metric {metric!r}. Known: {known}")
        rows = np.flatnonzero(column.has_row[metric]).tolist()
        arms.append({table.cases[row]: float(column.scores[metric][row]) for row in rows})
    old, new = arms
    _same_contents(baseline[0], candidate[0])
    shared = sum(case in new for case in old)
    larger = max(len(old), len(new))
    if shared < OVERLAP_NEEDED * larger:
        raise Refused(
            f"{metric}: {baseline[1].name} and {candidate[1].name} share {shared} of {larger} "
            f"cases; at least {percent(OVERLAP_NEEDED, digits=0)} are needed. Run both on the same "
            "cases."
        )
    cases = list(dict.fromkeys([*old, *new]))
    sources = {
        case: cluster
        for table in (candidate[0], baseline[0])
        for case, cluster in zip(table.cases, table.clusters, strict=True)
        if cluster
    }
    return Pair(
        name=metric,
        candidate=[new.get(case) for case in cases],
        baseline=[old.get(case) for case in cases],
        clusters=[sources.get(case, "") for case in cases] if sources else None,
        case_ids=cases,
    )


def _same_contents(one: ScoreTable, other: ScoreTable) -> None:
    before = dict(zip(one.cases, one.contents, strict=True))
    for case, content in zip(other.cases, other.contents, strict=True):
        if content and before.get(case) and before[case] != content:
            raise Refused(
                f"case {case!r} is not the same in both files: its question or its expected "
                "answer changed between the runs. Run both on the same cases."
            )


def comparison_of(
    pair: Pair, *, task: str, baseline: str, candidate: str, split: Split = "dev"
) -> Comparison:
    """Return the paired comparison of two candidates on a metric."""
    return compare(pair, task=task, split=split, baseline=baseline, candidate=candidate)


def release_of(
    table: ScoreTable,
    *,
    baseline: str,
    candidate: str,
    primary: str | None,
    guardrails: Mapping[str, float],
    min_gain: float = 0.02,
    must_hold: Sequence[str] = (),
    look: int | None = None,
) -> ReleaseVerdict:
    """Return the release verdict on two candidates of a table. Raises UsageError, Refused."""
    old, new = two_of(table, baseline=baseline, candidate=candidate)
    metric = table.metric(primary)
    first = pair_of((table, old), (table, new), metric=metric)
    guards = [
        Guard(pair=pair_of((table, old), (table, new), metric=table.metric(name)), margin=margin)
        for name, margin in guardrails.items()
    ]
    return judge_release(
        comparison_of(
            first, task=name_of(table), baseline=old.name, candidate=new.name, split="test"
        ),
        primary=first,
        guards=[*guards, *_slices(table, first, must_hold)],
        min_gain=min_gain,
        look=look,
        policy_digest=digest([metric, dict(guardrails), min_gain, list(must_hold)]),
    )


def two_of(table: ScoreTable, *, baseline: str, candidate: str) -> tuple[Column, Column]:
    """Return baseline and candidate. Raises UsageError where they are one, or unknown."""
    old = table.column(baseline, what="--baseline")
    new = table.column(candidate, what="--candidate")
    if old is new:
        raise UsageError(f"{new.name!r} is its own baseline: name another")
    return old, new


def _slices(table: ScoreTable, pair: Pair, must_hold: Sequence[str]) -> list[Guard]:
    members: dict[str, list[str]] = {}
    for case, name in zip(table.cases, table.slices, strict=True):
        if name:
            members.setdefault(name, []).append(case)
    unknown = [name for name in must_hold if name not in members]
    if unknown:
        known = ", ".join(sorted(members)) or "none"
        raise UsageError(f"--must-hold {unknown[0]!r} is no slice of the scores. Known: {known}")
    return [
        Guard(
            pair=slice_pair(pair, members[name], name=name),
            margin=SLICE_MARGIN,
            kind="slice",
            is_must_hold=name in must_hold,
        )
        for name in sorted(members)
        if len(members[name]) >= SMALLEST_SLICE or name in must_hold
    ]


# ---------------------------------------------------------------- looks


def look_key(table: ScoreTable, *, baseline: str, candidate: str) -> str:
    """Return the identity of a look: two names with their scores. Other scores, another look."""
    old, new = two_of(table, baseline=baseline, candidate=candidate)
    return "|".join(
        digest([c.name, {m: [repr(v) for v in s.tolist()] for m, s in c.scores.items()}])[:16]
        for c in (old, new)
    )


def case_marks(table: ScoreTable) -> list[str]:
    """Return what makes each case the same case on the next look."""
    return [digest(list(pair))[:12] for pair in zip(table.cases, table.contents, strict=True)]


def look_line(
    table: ScoreTable, *, baseline: str, candidate: str, key: str, at: str
) -> LedgerEntry:
    """Return the line of the ledger that counts a look."""
    return LedgerEntry(
        kind="look",
        task=name_of(table),
        at=at,
        payload={"purpose": "release", "pair": key, "cases": case_marks(table)},
        text=f"release: {candidate} against {baseline} on scores made elsewhere",
    )
