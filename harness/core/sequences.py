"""Bounds that hold at every size of a growing eval at once. Knows no looks and no ledger.

Cases that arrive in many batches would need an alpha for each look at them; a confidence sequence
may be read after every case, and stopped whenever it tells. It is wider than a bound at a size
that was fixed before.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harness.core.bounds import Clusters, as_scores, clustered_errors
from harness.errors import UsageError
from harness.records import Estimate

CLUSTERS_TO_BEGIN = 30
"""Below, the normal approximation is not to be trusted, and nothing is bounded."""


def sequence_radius(error: float, *, groups: int, alpha: float, tuned_for: int) -> float:
    """Return how far a mean with this standard error may be from the truth, on one side.

    sqrt(2 (G v + 1) / (G v) * log(1 + sqrt(G v + 1) / (2 alpha))) * error, where v makes the bound
    the tightest at G = `tuned_for`. Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2021),
    arXiv 2103.06476, the one-sided asymptotic sequence, from a half-normal mixture; with clusters
    for cases.
    """
    if not 0 < alpha < 0.5:
        raise UsageError(f"alpha {alpha:g}: a one-sided error rate lies between 0 and 0.5")
    if tuned_for < 1:
        raise UsageError(f"tuned_for {tuned_for}: a number of clusters is at least 1")
    spent = -2 * math.log(alpha)
    seen = groups * (spent + math.log(spent + 1)) / tuned_for
    return error * math.sqrt(2 * (seen + 1) / seen * math.log1p(math.sqrt(seen + 1) / (2 * alpha)))


def mean_sequence(
    scores: Any, clusters: Clusters, *, alpha: float = 0.05, tuned_for: int = 300
) -> Estimate:
    """Return the mean score so far, with bounds that hold at all sizes together. Shape: N."""
    return _sequence(as_scores(scores), clusters, alpha=alpha, tuned_for=tuned_for, least=0.0)


def paired_sequence(
    differences: Any, clusters: Clusters, *, alpha: float = 0.05, tuned_for: int = 300
) -> Estimate:
    """Return the mean difference so far, likewise. Shape: N, in [-1, 1], in order of arrival.

    Each bound alone errs at some size in `alpha`, asymptotically. Clusters have to arrive whole.
    Raises UsageError on differences out of range.
    """
    d = np.asarray(differences, dtype=np.float64)
    if (np.abs(d) > 1).any():
        raise UsageError("differences of scores lie in [-1, 1]; rescale the scores in the eval")
    return _sequence(d, clusters, alpha=alpha, tuned_for=tuned_for, least=-1.0)


def _sequence(
    values: Any, clusters: Clusters, *, alpha: float, tuned_for: int, least: float
) -> Estimate:
    means, errors, groups = clustered_errors(values, clusters)
    mean, lower, upper = float(means[0]), least, 1.0
    if groups >= CLUSTERS_TO_BEGIN:
        # where all are the same, one that was not would still have been seen
        error = max(float(errors[0]), 1 / groups)
        radius = sequence_radius(error, groups=groups, alpha=alpha, tuned_for=tuned_for)
        lower, upper = max(mean - radius, least), min(mean + radius, 1.0)
    return Estimate(
        mean=mean, lower=lower, upper=upper, n=len(values), clusters=groups, alpha=alpha
    )
