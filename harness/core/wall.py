"""Has prompting hit a wall? Scores in, verdict out; knows no store, ledger, clock or model.

The order of verdicts and every limit are those of `docs/statistics.md`. What is missing counts as
solved where a wall is claimed, and as failed where a prompt would ship.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.core import condition_words, next_steps, wall_words as words
from harness.core.bounds import (
    Array,
    as_scores,
    at_worst,
    cluster_codes,
    korn_graubard,
    mean_bounds,
    means_bounds,
)
from harness.core.coverage import (
    COVERAGE,
    LABELS,
    Coverage,
    judge_coverage,
    profile_named,
    without_families,
)
from harness.core.measures import Confirmation, Measures, WallInput, measure
from harness.core.needs import cases_to_settle
from harness.core.planning import CLUSTERS_FOR_ANY
from harness.core.reach import REACH_LIMIT
from harness.core.tries import (
    TryScores,
    build_tries,
    echoed_families,
    identity_of,
    repeats_of,
    repeats_table,
    score_table,
)
from harness.errors import UsageError
from harness.records import Condition, Try, WallVerdict

__all__ = ["Confirmation", "TryScores", "WallInput", "judge_wall", "nominee"]

MISSING_LIMIT = 0.02


def judge_wall(evidence: WallInput) -> WallVerdict:
    """Return the verdict on a ladder. Raises UsageError on scores or settings that cannot be read.

    Deterministic given `evidence.seed`.
    """
    if not 0 < evidence.target <= 1:
        raise UsageError(f"target {evidence.target:g}: a target lies above 0 and at most at 1")
    profile = profile_named(evidence.profile)
    repeats = repeats_of([identity_of(rung) for rung in evidence.tries])
    counted = [
        rung
        for rung, repeated in zip(evidence.tries, repeats, strict=True)
        if rung.is_countable and repeated is None
    ]
    coverage = judge_coverage(
        [rung.family for rung in counted],
        profile,
        waivers=evidence.waivers,
        needs_knowledge=evidence.needs_knowledge,
        echoes=echoed_families(evidence.tries, repeats),
    )
    if COVERAGE in evidence.unseen:
        coverage = without_families(coverage, profile, tries=len(counted))
    if not counted:
        rungs = build_tries(evidence.tries, evidence.clusters, alpha=evidence.alpha)
        said = words.Saying("KEEP_PROMPTING", *words.nothing_tried(evidence, coverage))
        return _verdict(evidence, said, rungs, [_coverage_condition(coverage)], measures=None)
    n = len(counted[0].scores)
    table = score_table(counted, n)
    codes, _ = cluster_codes(evidence.clusters, n)
    evidence = replace(evidence, clusters=codes)
    names = [rung.name for rung in counted]
    measures = measure(evidence, table, profile, names=names, repeats=repeats_table(counted, n))
    best = next(k for k, rung in enumerate(evidence.tries) if rung is counted[measures.best])
    rungs = build_tries(evidence.tries, evidence.clusters, best=best, alpha=evidence.alpha)
    conditions = [_coverage_condition(coverage), *_conditions(evidence, measures)]
    said = _decide(evidence, table, counted, coverage, seen=measures, conditions=conditions)
    return _verdict(evidence, said, rungs, conditions, measures=measures, best=counted)


def nominee(evidence: WallInput) -> str | None:
    """Return the prompt that is worth a look at the sealed cases, or None.

    The dev-best within budget whose naive 90 % lower bound reaches the target: a look that would
    most likely fail wastes error that later looks need.
    """
    tries = [rung for rung in evidence.tries if rung.is_countable and rung.is_within_budget]
    if not tries:
        return None
    table = at_worst(score_table(tries, len(tries[0].scores)), missing=0.0)
    best = int(np.argmax(table.mean(axis=0)))
    bound = mean_bounds(table[:, best], evidence.clusters, alpha=0.10).lower
    return tries[best].name if bound >= evidence.target else None


def _coverage_condition(coverage: Coverage) -> Condition:
    holds = None if coverage.is_complete and not coverage.is_checked else coverage.is_complete
    return Condition(name=COVERAGE, holds=holds, text=coverage.text)


def _conditions(evidence: WallInput, seen: Measures) -> list[Condition]:
    """Return (a) to (f), in that order, (e) as two."""
    ceiling = evidence.label_ceiling
    labels: bool | None = None
    if LABELS in evidence.waivers:
        labels = True
    if ceiling is not None:
        labels = ceiling.upper >= evidence.target
    return [
        Condition(
            name="level",
            holds=seen.upper < evidence.target,
            text=condition_words.level(evidence, seen),
        ),
        Condition(
            name="reach",
            holds=None if seen.reach is None else seen.reach <= REACH_LIMIT,
            text=condition_words.reach(evidence, seen),
        ),
        Condition(
            name="not climbing",
            holds=None if seen.line is None else not seen.climbing,
            text=condition_words.climb(evidence, seen),
        ),
        Condition(
            name="resolution",
            holds=None if seen.resolution is None else seen.resolution <= seen.limit,
            text=condition_words.resolution(seen),
        ),
        Condition(
            name="clusters", holds=seen.has_enough_clusters, text=condition_words.clusters(seen)
        ),
        Condition(
            name="positive control",
            holds=None if seen.control is None else seen.control >= evidence.target,
            text=condition_words.control(evidence, seen),
        ),
        Condition(name="labels", holds=labels, text=condition_words.labels(evidence)),
        *([evidence.judges] if evidence.judges is not None else []),
    ]


# ---------------------------------------------------------------- what follows


def _decide(
    evidence: WallInput,
    table: Array,
    counted: Sequence[TryScores],
    coverage: Coverage,
    *,
    seen: Measures,
    conditions: Sequence[Condition],
) -> words.Saying:
    holds = {
        c.name: True if c.holds is None and c.name in evidence.unseen else c.holds
        for c in conditions
    }
    missing = np.isnan(table).mean(axis=0)
    if (missing > MISSING_LIMIT).any():
        names = [counted[k].name for k in np.flatnonzero(missing > MISSING_LIMIT).tolist()]
        said = words.rerun(evidence, names, float(missing.max()))
        return words.Saying("INSUFFICIENT_EVIDENCE", *said)
    if seen.clusters < CLUSTERS_FOR_ANY:
        return words.Saying("INSUFFICIENT_EVIDENCE", *words.too_few_clusters(seen))
    shipping = _shipping(evidence, table, counted, seen)
    judges = evidence.judges
    if shipping is not None:
        if judges is not None and judges.holds is not True:
            said = words.uncertified(shipping, judges)
            return words.Saying("INSUFFICIENT_EVIDENCE", *said, best=shipping.best)
        return shipping
    if holds["positive control"] is False or holds["labels"] is False:
        return words.Saying("FIX_DATA", *words.fix_data(evidence, seen, holds))
    if not coverage.is_complete:
        if _is_beyond_settling(evidence, seen):
            need = _need(evidence, seen)
            said = words.beyond_settling(evidence, seen, need)
            return words.Saying("INSUFFICIENT_EVIDENCE", *said, need_cases=need)
        return words.Saying("KEEP_PROMPTING", *words.uncovered(evidence, seen, coverage))
    if all(holds.values()):
        return words.Saying("WALL", *words.wall(evidence, seen, coverage, counted))
    unread = ["positive control", "labels", *([judges.name] if judges is not None else [])]
    evidence_holds = [v for k, v in holds.items() if k not in unread]
    if all(evidence_holds):
        return words.Saying("INSUFFICIENT_EVIDENCE", *words.unchecked(evidence, holds))
    if seen.climbing:
        return words.Saying("KEEP_PROMPTING", *words.climbing(evidence, seen))
    is_noise = seen.endless_reach is not None and seen.endless_reach <= REACH_LIMIT
    if is_noise or seen.best_mean >= evidence.target or not seen.has_enough_clusters:
        need = _need(evidence, seen)
        said = words.insufficient(evidence, seen, counted[seen.best].name, need)
        return words.Saying("INSUFFICIENT_EVIDENCE", *said, need_cases=need)
    return words.Saying(
        "KEEP_PROMPTING", *words.searching(evidence, seen, coverage, counted[seen.best].name)
    )


def _shipping(
    evidence: WallInput, table: Array, counted: Sequence[TryScores], seen: Measures
) -> words.Saying | None:
    """Return SHIP_PROMPT where a prompt, or a stronger model within budget, is shown good enough.

    With a confirmation look only that look decides: dev scores were written against.
    """
    look = evidence.confirmation
    if look is not None:
        scores = as_scores(look.scores)
        shown = mean_bounds(at_worst(scores, missing=0.0), look.clusters, alpha=look.alpha)
        is_complete = float(np.isnan(scores).mean()) <= MISSING_LIMIT
        if shown.clusters >= CLUSTERS_FOR_ANY and is_complete and shown.lower >= evidence.target:
            return words.Saying(
                "SHIP_PROMPT", *words.confirmed(evidence, look.name, shown), best=look.name
            )
        return None
    fit = [k for k, rung in enumerate(counted) if rung.is_within_budget]
    others = [rung for rung in evidence.stronger if rung.is_within_budget]
    names = [counted[k].name for k in fit] + [rung.name for rung in others]
    if not names:
        return None
    scores = np.column_stack([table[:, fit], score_table(others, len(table))])
    # at an alpha that holds for all planned tries together
    bounds = means_bounds(at_worst(scores, missing=0.0), evidence.clusters, alpha=seen.each_alpha)
    best = max(range(len(names)), key=lambda k: bounds[k].lower)
    name, shown = names[best], bounds[best]
    if shown.lower < evidence.target:
        return None
    return words.Saying("SHIP_PROMPT", *words.unconfirmed(evidence, name, shown), best=name)


def _is_beyond_settling(evidence: WallInput, seen: Measures) -> bool:
    """Tell whether no number of further tries could end in WALL or in SHIP_PROMPT.

    A bound at or above the target stays there whatever is tried next, so level can never hold
    again; and where even a perfect prompt could not be shown good enough, nothing can ship.
    """
    if seen.has_enough_clusters and seen.upper < evidence.target:
        return False
    perfect, _ = korn_graubard(1.0, 0.0, groups=seen.clusters, alpha=seen.each_alpha)
    best_case = float(perfect[0])
    if evidence.sealed_clusters >= CLUSTERS_FOR_ANY:
        sealed, _ = korn_graubard(1.0, 0.0, groups=evidence.sealed_clusters, alpha=0.04)
        best_case = max(best_case, float(sealed[0]))
    return best_case < evidence.target


def _need(evidence: WallInput, seen: Measures) -> int:
    return cases_to_settle(
        seen.pace,
        n=seen.n,
        clusters=seen.clusters,
        target=evidence.target,
        limit=seen.limit,
        resolution=seen.resolution,
        each_alpha=seen.each_alpha,
    )


def _verdict(
    evidence: WallInput,
    said: words.Saying,
    rungs: tuple[Try, ...],
    conditions: Sequence[Condition],
    *,
    measures: Measures | None,
    best: Sequence[TryScores] = (),
) -> WallVerdict:
    top = best[measures.best].name if measures is not None else None
    return WallVerdict(
        task=evidence.task,
        answer=said.answer,
        reason=said.reason,
        conditions=tuple(conditions),
        tries=rungs,
        target=evidence.target,
        mid=evidence.mid,
        profile=evidence.profile,
        best=said.best or top,
        horizon=0 if measures is None else measures.horizon,
        reach=None if measures is None else measures.reach,
        resolution=None if measures is None else measures.resolution,
        is_climbing=measures is not None and measures.climbing,
        need_cases=said.need_cases,
        next_step=next_steps.with_mending(evidence, said.next_step),
        alpha=evidence.alpha,
        inputs_digest=evidence.inputs_digest,
        labels_digest=evidence.labels_digest,
        evals_digest=evidence.evals_digest,
        policy_digest=evidence.policy_digest,
        waivers=dict(evidence.waivers),
        notes=words.notes(evidence, measures, rungs),
    )
