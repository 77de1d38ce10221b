"""Two candidates on the same cases, as aligned scores. Knows no thresholds and no verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.core.bounds import Array, Clusters, as_scores, missing_share, paired_bounds
from harness.core.tries import try_estimates
from harness.core.words import percent
from harness.errors import Refused, UsageError
from harness.records import Comparison, Estimate, Split

MISSING_LIMIT = 0.02
OVERLAP_NEEDED = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One score of both arms, a value a case in the same order; None or NaN = missing.

    A case that the system under test failed scores 0. Leave out only cases that have no such
    score in either arm (no reference): what one arm alone lacks is missing.
    """

    name: str
    candidate: Sequence[float | None] | Array
    baseline: Sequence[float | None] | Array
    clusters: Clusters = None
    case_ids: Sequence[str] = ()

    @property
    def missing(self) -> float:
        """The larger share of missing cases of the two arms, in [0, 1]."""
        return max(missing_share(self.candidate), missing_share(self.baseline))


def align(
    name: str,
    candidate: Mapping[str, float | None],
    *,
    baseline: Mapping[str, float | None],
    clusters: Mapping[str, str] | None = None,
) -> Pair:
    """Return a pair over the cases that both arms have, in the baseline's order.

    Keys identify a case by its content. Raises Refused where less than 95 % of the larger set is
    shared: the arms were not measured on the same eval.
    """
    shared = [key for key in baseline if key in candidate]
    larger = max(len(candidate), len(baseline))
    if not larger:
        raise UsageError(f"{name}: neither arm has a scored case")
    if len(shared) < OVERLAP_NEEDED * larger:
        raise Refused(
            f"{name}: the arms share {len(shared)} of {larger} cases; at least "
            f"{percent(OVERLAP_NEEDED, digits=0)} are needed. Run both on the present cases."
        )
    return Pair(
        name=name,
        candidate=[candidate[key] for key in shared],
        baseline=[baseline[key] for key in shared],
        clusters=None if clusters is None else [clusters[key] for key in shared],
        case_ids=shared,
    )


def slice_pair(pair: Pair, case_ids: Collection[str], *, name: str) -> Pair:
    """Return the pair on some of its cases (those of a tag, for one)."""
    if len(pair.case_ids) != len(pair.candidate):
        raise UsageError(f"{pair.name}: a slice needs the case ids of the pair")
    wanted = set(case_ids)
    rows = [row for row, case_id in enumerate(pair.case_ids) if case_id in wanted]
    return replace(
        pair,
        name=name,
        candidate=[pair.candidate[row] for row in rows],
        baseline=[pair.baseline[row] for row in rows],
        clusters=None if pair.clusters is None else [pair.clusters[row] for row in rows],
        case_ids=[pair.case_ids[row] for row in rows],
    )


def arms(pair: Pair) -> Array:
    """Return N x 2 scores, candidate then baseline, missing as NaN."""
    if len(pair.candidate) != len(pair.baseline):
        raise UsageError(
            f"{pair.name}: {len(pair.candidate)} scores of the candidate, {len(pair.baseline)} of "
            "the baseline: align them first"
        )
    if len(pair.candidate) == 0:
        raise UsageError(f"{pair.name}: no case has this score in both arms")
    return np.column_stack(
        [
            as_scores(pair.candidate, name=f"{pair.name} of the candidate"),
            as_scores(pair.baseline, name=f"{pair.name} of the baseline"),
        ]
    )


def delta_bounds(pair: Pair, *, alpha: float = 0.05) -> Estimate:
    """Return candidate minus baseline with one-sided bounds that survive what is missing.

    The lower bound takes a missing candidate as 0 and a missing baseline as 1, the upper bound
    the reverse; the mean is over the cases that both arms have.
    """
    table = arms(pair)
    gone = np.isnan(table)
    worst = np.where(gone, [0.0, 1.0], table)
    low = paired_bounds(worst[:, 0] - worst[:, 1], pair.clusters, alpha=alpha)
    if not gone.any():
        return low
    kindest = np.where(gone, [1.0, 0.0], table)
    high = paired_bounds(kindest[:, 0] - kindest[:, 1], pair.clusters, alpha=alpha)
    both = table[~gone.any(axis=1)]
    return Estimate(
        mean=float((both[:, 0] - both[:, 1]).mean()) if len(both) else low.mean,
        lower=low.lower,
        upper=high.upper,
        n=len(both),
        clusters=low.clusters,
        alpha=alpha,
    )


def compare(
    pair: Pair,
    *,
    task: str,
    split: Split,
    baseline: str,
    candidate: str,
    baseline_run: str = "",
    candidate_run: str = "",
    alpha: float = 0.05,
) -> Comparison:
    """Return the paired comparison of a score: who won which case, and by how much on the mean.

    A case counts as missed where it does not earn the full score of 1. Wins, losses and ties are
    over the cases that both arms have.
    """
    table = arms(pair)
    mine, theirs = table[:, 0], table[:, 1]
    both = ~np.isnan(table).any(axis=1)
    ids = list(pair.case_ids) or [str(row) for row in range(len(table))]
    missed = both & (theirs >= 1) & (mine < 1)
    passed = both & (mine >= 1) & (theirs < 1)
    of_candidate, of_baseline = try_estimates(table, pair.clusters, alpha=alpha)
    return Comparison(
        task=task,
        split=split,
        baseline=baseline,
        candidate=candidate,
        baseline_run=baseline_run,
        candidate_run=candidate_run,
        baseline_estimate=of_baseline,
        candidate_estimate=of_candidate,
        delta=delta_bounds(pair, alpha=alpha),
        wins=int((mine > theirs).sum()),
        losses=int((mine < theirs).sum()),
        ties=int((mine == theirs).sum()),
        newly_missed=tuple(ids[row] for row in np.flatnonzero(missed).tolist()),
        newly_passed=tuple(ids[row] for row in np.flatnonzero(passed).tolist()),
        missing=int((~both).sum()),
    )
