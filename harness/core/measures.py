"""The wall's evidence and what its scores say, as numbers. Knows no limits, words or verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.audit import LabelAudit
from harness.core.bounds import (
    Array,
    Clusters,
    at_worst,
    clustered_means,
    effective_clusters,
    korn_graubard,
    largest_cluster_share,
    max_t_alpha,
)
from harness.core.ceilings import Ceiling, oracle_ceiling
from harness.core.coverage import Profile
from harness.core.needs import Pace
from harness.core.planning import CLUSTERS_FOR_WALL, LARGEST_SHARE
from harness.core.reach import (
    Trend,
    detectable_gain,
    is_climbing,
    reach_chance,
    trend,
    window_size,
)
from harness.core.tries import TryScores, failed_by_all
from harness.records import Condition, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """One look at sealed cases with one prompt. `alpha` is what this look spends."""

    name: str
    scores: Sequence[float | None] | Array
    clusters: Clusters = None
    alpha: float = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class WallInput:
    """All that the wall reads. Every score list is aligned on the same N dev cases.

    `tries` stand in time order. `clusters` has one name a case (None: each its own).
    `reference_scores` are those of the reference answers under the same grader, None where they
    were not graded. `label_ceiling` estimates from an audit the share of labels that are right.
    `waivers` holds written reasons by family, or by `labels`. `stronger` models are no tries: they
    can ship, or show that the wall is one of cost. `sealed_clusters` counts what a confirmation
    could be read on. `notes` (label edits, for one) are printed with the verdict. `judges` says
    whether the models that gave scores are certified, None where no model did: unless it holds,
    neither a wall nor a shipped prompt may rest on the scores.
    `unseen` names the conditions that a table made elsewhere cannot show (coverage, positive
    control, labels): they stay unchecked, and decide nothing. `audit` is what people said of the
    labels; `control_missed` names the cases whose own reference the evals fail. `case_ids` name
    the cases, where they have names. `refused` names the families that the model's backend would
    not honour: no next step suggests them.
    """

    task: str
    tries: Sequence[TryScores]
    target: float
    clusters: Clusters = None
    mid: float = 0.05
    profile: str = "standard"
    reference_scores: Sequence[float | None] | Array | None = None
    label_ceiling: Estimate | None = None
    waivers: Mapping[str, str] = field(default_factory=dict)
    needs_knowledge: bool = False
    confirmation: Confirmation | None = None
    stronger: Sequence[TryScores] = ()
    sealed_clusters: int = 0
    model: str = ""
    planned: int = 50
    alpha: float = 0.05
    draws: int = 2000
    seed: int = 0
    inputs_digest: str = ""
    labels_digest: str = ""
    evals_digest: str = ""
    policy_digest: str = ""
    notes: Sequence[str] = ()
    judges: Condition | None = None
    unseen: Collection[str] = ()
    audit: LabelAudit | None = None
    control_missed: Sequence[str] = ()
    case_ids: Sequence[str] = ()
    refused: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What the counted tries say. `best` indexes them, `unsolved` the cases that none solved."""

    n: int
    clusters: int
    best: int
    best_mean: float
    upper: float
    upper_name: str
    each_alpha: float
    window: int
    line: Trend | None
    climbing: bool
    horizon: int
    reach: float | None
    endless_reach: float | None
    resolution: float | None
    limit: float
    recent: float
    largest_share: float
    effective: float
    control: float | None
    ceiling: Ceiling
    unsolved: tuple[int, ...]
    pace: Pace

    @property
    def has_enough_clusters(self) -> bool:
        """Thirty clusters, none of which is a fifth of all."""
        return self.clusters >= CLUSTERS_FOR_WALL and self.largest_share <= LARGEST_SHARE


def measure(
    evidence: WallInput,
    table: Array,
    profile: Profile,
    *,
    names: Sequence[str],
    repeats: Array | None = None,
) -> Measures:
    """Return what the counted tries say. Shapes: N x K, missing as NaN; N x K x r its repeats."""
    n, tries = table.shape
    solved = at_worst(table, missing=1.0)
    means, cov, groups = clustered_means(solved, evidence.clusters)
    errors = np.sqrt(np.diag(cov))
    _, uppers = korn_graubard(means, errors, groups=groups, alpha=evidence.alpha)
    is_there = ~np.isnan(table)
    seen = np.where(is_there, table, 0.0).sum(axis=0) / np.maximum(is_there.sum(axis=0), 1)
    best = int(np.argmax(seen))
    m = window_size(tries)
    recent = means[-m:]
    noise = cov[-m:, -m:]
    has_bounds = groups > 1
    each_alpha = evidence.alpha
    if has_bounds:
        each_alpha = max_t_alpha(
            cov, groups, alpha=evidence.alpha, planned=evidence.planned, draws=evidence.draws,
            seed=evidence.seed,
        )  # fmt: skip
    line = trend(recent)
    gap = evidence.target - float(seen[best])
    horizon = profile.horizon(tries)
    reach = endless = None
    if has_bounds and line is not None:
        reach, endless = (
            reach_chance(
                recent, noise, target=evidence.target, horizon=horizon, draws=evidence.draws,
                seed=evidence.seed, has_endless_cases=is_endless,
            )
            for is_endless in (False, True)
        )  # fmt: skip
    others = [k for k in range(tries - m, tries) if k != best]
    resolution = None
    if has_bounds and others:
        variances = errors[others] ** 2 + errors[best] ** 2 - 2 * cov[others, best]
        # where no case tells two tries apart, one case that did would still have been seen
        pair_errors = np.sqrt(np.maximum(variances, 1 / n**2))
        resolution = detectable_gain(pair_errors, groups)
    middle = float(np.median(recent))
    control = None
    if evidence.reference_scores is not None:
        control = float(at_worst(evidence.reference_scores, missing=0.0).mean())
    worst_upper = int(np.argmax(uppers))
    return Measures(
        n=n,
        clusters=groups,
        best=best,
        best_mean=float(seen[best]),
        upper=float(uppers[worst_upper]),
        upper_name=names[worst_upper],
        each_alpha=each_alpha,
        window=m,
        line=line,
        climbing=is_climbing(line, tries=tries, gap=gap),
        horizon=horizon,
        reach=reach,
        endless_reach=endless,
        resolution=resolution,
        limit=max(evidence.mid, evidence.target - middle),
        recent=middle,
        largest_share=largest_cluster_share(evidence.clusters, n),
        effective=effective_clusters(evidence.clusters, n),
        control=control,
        ceiling=oracle_ceiling(table if repeats is None else repeats),
        unsolved=failed_by_all(table),
        pace=Pace(means=means, cov=cov, best=best, window=m),
    )
