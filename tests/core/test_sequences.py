"""Bounds that hold at every size: against the mixture itself, and against an eval that grows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.core.bounds import mean_bounds, paired_bounds
from harness.core.sequences import (
    CLUSTERS_TO_BEGIN,
    mean_sequence,
    paired_sequence,
    sequence_radius,
)
from harness.errors import UsageError


@given(
    groups=st.integers(30, 5000),
    alpha=st.floats(0.001, 0.2),
    tuned_for=st.integers(30, 3000),
)
def test_at_the_bound_the_half_normal_mixture_reaches_one_over_alpha(
    groups: int, alpha: float, tuned_for: int
) -> None:
    """M = 2/s exp(x^2/2) Phi(x) is the mixture of likelihood ratios; Ville's inequality does the
    rest. The closed radius must never be shorter than the one at which M = 1/alpha, nor far longer.
    """
    from scipy.special import log_ndtr

    spent = -2 * math.log(alpha)
    seen = groups * (spent + math.log(spent + 1)) / tuned_for
    radius = sequence_radius(1.0, groups=groups, alpha=alpha, tuned_for=tuned_for)
    x = radius * math.sqrt(seen / (seen + 1))  # in standard errors, shrunk by the mixture

    def log_mixture(at: float) -> float:
        return math.log(2) - 0.5 * math.log(seen + 1) + at * at / 2 + float(log_ndtr(at))

    assert log_mixture(x) >= -math.log(alpha) - 1e-9
    assert log_mixture(0.85 * x) < -math.log(alpha)


def test_the_sequence_is_the_tightest_where_it_was_tuned() -> None:
    at = {
        tuned: sequence_radius(1.0, groups=300, alpha=0.05, tuned_for=tuned)
        for tuned in (10, 300, 9000)
    }
    assert at[300] == min(at.values())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_it_is_wider_than_a_bound_at_a_fixed_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = rng.integers(-1, 2, 200).astype(float)
    clusters = np.arange(200) // 4
    always, once = paired_sequence(d, clusters), paired_bounds(d, clusters)
    assert always.lower < once.lower < always.mean < once.upper < always.upper
    scores = (d + 1) / 2
    assert mean_sequence(scores, clusters).lower < mean_bounds(scores, clusters).lower


def test_below_thirty_clusters_nothing_is_bounded() -> None:
    few = paired_sequence(np.ones(CLUSTERS_TO_BEGIN - 1), None)
    assert (few.lower, few.upper) == (-1, 1)
    assert mean_sequence(np.ones(CLUSTERS_TO_BEGIN - 1), None).lower == 0
    assert paired_sequence(np.ones(300), None).lower > 0.9


def test_no_loss_in_a_hundred_is_no_proof_of_none() -> None:
    assert paired_sequence(np.zeros(100), None).lower < -0.02


def test_scores_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\[-1, 1\]"):
        paired_sequence([2.0], None)
    with pytest.raises(UsageError, match="not a score"):
        mean_sequence([-0.5], None)
    with pytest.raises(UsageError, match="alpha"):
        sequence_radius(0.1, groups=50, alpha=0.7, tuned_for=100)
    with pytest.raises(UsageError, match="tuned_for"):
        sequence_radius(0.1, groups=50, alpha=0.05, tuned_for=0)


def test_forty_looks_at_a_growing_eval_claim_no_gain_where_there_is_none() -> None:
    """A paired t at each of these looks claims one in about a fifth of the worlds."""
    rng = np.random.default_rng(8)
    worlds, claimed, naive = 150, 0, 0
    for _ in range(worlds):
        d = rng.choice([-1.0, 0.0, 1.0], size=800, p=[0.14, 0.72, 0.14])
        sizes = range(40, 801, 20)
        claimed += any(paired_sequence(d[:n], None).lower > 0 for n in sizes)
        naive += any(
            d[:n].mean() > 1.645 * d[:n].std() / math.sqrt(n) for n in sizes
        )  # fmt: skip
    assert claimed <= 12  # P = .03 at a true rate of 5 %
    assert naive >= 20
