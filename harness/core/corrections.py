"""A judge's mean, corrected by human labels of a part. Knows numbers, not judges or people.

A judge that labels everything is cheap and biased; people are neither. Labels of a random part
tell the bias, and the judge's agreement with them decides how much it may help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.bounds import (
    Array,
    Clusters,
    clustered_errors,
    clustered_means,
    t_quantile,
)
from harness.errors import UsageError
from harness.records import Estimate

LABELS_TO_BEGIN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The corrected mean; how far the judge was trusted (0 not at all, 1 fully), and its bias."""

    estimate: Estimate
    trust: float
    bias: float


def corrected_mean(
    human: Any,
    judge: Any,
    *,
    others: Any,
    clusters: Clusters = None,
    other_clusters: Clusters = None,
    alpha: float = 0.05,
    is_difference: bool = False,
) -> Correction:
    """Return the mean that people would find, from n labels and the judge on all (PPI++).

    Shapes: n human labels and n of the judge on the same replies, in order; Nu of the judge on
    `others`, labelled by nobody. Scores in [0, 1], or with `is_difference` candidate minus
    baseline in [-1, 1]: a judge that likes a candidate's style does not cancel in pairs.

        mean = trust * mean(others) + mean(human - trust * judge)
        trust = cov(judge, human) / (var(judge) + var(others)), of the means, within [0, 1]

    Read with G - 1 degrees of freedom, G the clusters of the labelled part; the two parts must
    share no cluster, and the labelled one be drawn at random. Never use labels of other data or of
    another judge. Source: Angelopoulos, Duchi & Zrnic (2023), PPI++, arXiv 2311.01453, section 4;
    with clusters, the variances are the clustered ones.
    """
    least = -1.0 if is_difference else 0.0
    y, f = _numbers(human, "human", least=least), _numbers(judge, "judge", least=least)
    rest = _numbers(others, "others", least=least)
    if len(y) != len(f):
        raise UsageError(f"{len(y)} human labels and {len(f)} of the judge: align them first")
    if len(y) < LABELS_TO_BEGIN:
        raise UsageError(f"{len(y)} human labels: below {LABELS_TO_BEGIN} nothing is corrected")
    _, cov, groups = clustered_means(np.column_stack([f, y]), clusters)
    rest_error = float(clustered_errors(rest, other_clusters)[1][0]) if len(rest) else np.inf
    noise = float(cov[0, 0]) + rest_error**2
    is_known = groups > 1 and np.isfinite(noise) and noise > 0
    trust = float(np.clip(cov[0, 1] / noise, 0.0, 1.0)) if is_known else 0.0
    mean = float((y - trust * f).mean()) + (trust * float(rest.mean()) if trust else 0.0)
    if groups < 2:
        lower, upper = least, 1.0
    else:
        left = float(clustered_errors(y - trust * f, clusters)[1][0])
        # where all labels agree, one that did not would still have been seen
        error = np.hypot(max(left, 1 / groups), trust * rest_error if trust else 0.0)
        reach = t_quantile(1 - alpha, groups) * float(error)
        lower, upper = max(mean - reach, least), min(mean + reach, 1.0)
    return Correction(
        estimate=Estimate(
            mean=mean, lower=lower, upper=upper, n=len(y) + len(rest), clusters=groups, alpha=alpha
        ),
        trust=trust,
        bias=float((f - y).mean()),
    )


def _numbers(values: Any, name: str, *, least: float) -> Array:
    found = np.asarray(values, dtype=np.float64)
    if np.isnan(found).any() or (found < least).any() or (found > 1).any():
        raise UsageError(f"{name}: numbers in [{least:g}, 1] without gaps are needed")
    return found
