"""How far picking the best prompt for each case would reach. Knows scores a repeat, no verdict.

Reported, never decisive: with one repeat luck is taken for skill. The largest mean of a case is
biased up; choosing on half of the repeats and scoring on the others is biased down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.bounds import Array, as_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The truth lies between `at_least` and `at_most`, but for the luck of the cases.

    `at_least` is None with one repeat. `repeats` is how many every try has of every case.
    """

    at_most: float
    at_least: float | None
    repeats: int


def oracle_ceiling(scores: Any) -> Ceiling:
    """Return the oracle-of-prompts ceiling mean_i max_k p_ik, from above and from below.

    Shape: N x K x r (cases, tries, repeats). A missing score is a hit from above and a miss from
    below. From below: in each of r rotations the best tries of a case are chosen on ceil(r/2)
    repeats, and their mean on the others is counted (cross-fit). Source: the two biases are
    Jensen's; simulated in tests/core/test_ceilings.py.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 2:
        table = table[:, :, None]
    table = as_scores(table)
    repeats = table.shape[2]
    above = np.where(np.isnan(table), 1.0, table)
    at_most = float(above.mean(axis=2).max(axis=1).mean())
    if repeats < 2:
        return Ceiling(at_most=at_most, at_least=None, repeats=repeats)
    below = np.where(np.isnan(table), 0.0, table)
    found = [_cross_fit(below, start) for start in range(repeats)]
    return Ceiling(at_most=at_most, at_least=min(float(np.mean(found)), at_most), repeats=repeats)


def _cross_fit(table: Array, start: int) -> float:
    """Return the mean on the later half of the repeats of what was best on the first half."""
    repeats = table.shape[2]
    order = np.roll(np.arange(repeats), -start)
    first, later = order[: (repeats + 1) // 2], order[(repeats + 1) // 2 :]
    chosen = table[:, :, first].mean(axis=2)
    is_best = chosen >= chosen.max(axis=1, keepdims=True) - 1e-9
    value = table[:, :, later].mean(axis=2)
    return float(((value * is_best).sum(axis=1) / is_best.sum(axis=1)).mean())
