"""Two factors, four arms, one set of cases: what each does alone, and what both do together.

Knows nothing of what the factors are; scores only. Every effect is paired, a case with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.core.bounds import Array, Clusters, as_scores, paired_bounds
from harness.errors import UsageError
from harness.records import Estimate

ARMS = ("neither", "first", "second", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A difference of means of scores. `weights` are those of the four arms."""

    name: str
    weights: tuple[int, int, int, int]
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Factorial:
    """A 2 x 2. `interaction` above 0: together they do more than the sum of each alone."""

    first_alone: Effect
    second_alone: Effect
    first_given_second: Effect
    second_given_first: Effect
    both: Effect
    interaction: Effect

    @property
    def effects(self) -> tuple[Effect, ...]:
        """All six, in the order in which a table shows them."""
        return (
            self.first_alone,
            self.second_alone,
            self.first_given_second,
            self.second_given_first,
            self.both,
            self.interaction,
        )


def factorial(
    table: Sequence[Sequence[float | None]] | Array, clusters: Clusters, *, alpha: float = 0.05
) -> Factorial:
    """Return the effects of two factors. Shape: N x 4, in the order of `ARMS`; None or NaN missing.

    Bounds are one-sided, each at `alpha`, over clusters, by MOVER-KG; that of the interaction,
    whose differences lie in [-2, 2], on half of them. What is missing is taken at its worst, for
    either bound. Source: Montgomery (2017), Design and Analysis of Experiments, section 5.3 (the
    interaction as difference of differences, here not halved).
    """
    scores = as_scores(table, name="arms")
    if scores.ndim != 2 or scores.shape[1] != len(ARMS) or not len(scores):
        raise UsageError(f"a 2 x 2 needs scores of four arms on the same cases, not {scores.shape}")

    def effect(name: str, *weights: int) -> Effect:
        neither, first, second, both = weights
        estimate = contrast(scores, weights, clusters, alpha=alpha)
        return Effect(name=name, weights=(neither, first, second, both), estimate=estimate)

    return Factorial(
        first_alone=effect("first", -1, 1, 0, 0),
        second_alone=effect("second", -1, 0, 1, 0),
        first_given_second=effect("first given second", 0, 0, -1, 1),
        second_given_first=effect("second given first", 0, -1, 0, 1),
        both=effect("both", -1, 0, 0, 1),
        interaction=effect("interaction", 1, -1, -1, 1),
    )


def contrast(
    table: Array, weights: Sequence[int], clusters: Clusters, *, alpha: float = 0.05
) -> Estimate:
    """Return the mean of a weighted sum of columns with its bounds; weights sum to 0.

    Shape: N x K, NaN missing. The mean is over the cases whose weighted columns are all there.
    """
    used = [k for k, weight in enumerate(weights) if weight]
    scores, sizes = table[:, used], np.array([weights[k] for k in used], dtype=np.float64)
    scale = float(sizes[sizes > 0].sum())
    gone = np.isnan(scores)
    each = sizes / scale
    worst = np.where(gone, np.where(sizes > 0, 0.0, 1.0), scores)
    low = paired_bounds((worst * each).sum(axis=1), clusters, alpha=alpha)
    if gone.any():
        kindest = np.where(gone, np.where(sizes > 0, 1.0, 0.0), scores)
        high = paired_bounds((kindest * each).sum(axis=1), clusters, alpha=alpha)
        whole = (scores[~gone.any(axis=1)] * each).sum(axis=1)
        mean = float(whole.mean()) if len(whole) else low.mean
        low = replace(low, mean=mean, upper=high.upper, n=len(whole))
    return replace(low, mean=low.mean * scale, lower=low.lower * scale, upper=low.upper * scale)
