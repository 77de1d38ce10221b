"""A judge corrected by people covers where it alone does not, and is narrower than people are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.core.bounds import mean_t_bounds
from harness.core.corrections import corrected_mean
from harness.errors import UsageError

RNG = np.random.default_rng(9)


def judged(rng: np.random.Generator, n: int, *, sens: float, spec: float) -> np.ndarray:
    """n x 2: what people say (true in .70), and what a judge of this quality says."""
    human = rng.random(n) < 0.70
    judge = np.where(human, rng.random(n) < sens, rng.random(n) >= spec)
    return np.column_stack([human, judge]).astype(float)


def test_the_mean_case_is_the_formula_of_ppi_plus_plus() -> None:
    table = judged(RNG, 100, sens=0.9, spec=0.7)
    rest = judged(RNG, 900, sens=0.9, spec=0.7)[:, 1]
    y, f = table.T
    found = corrected_mean(y, f, others=rest)
    both = np.cov(f, y)
    trust = both[0, 1] / (both[0, 0] + rest.var(ddof=1) * 100 / 900)
    assert found.trust == pytest.approx(trust)
    mean = trust * rest.mean() + (y - trust * f).mean()
    assert found.estimate.mean == pytest.approx(mean)
    variance = trust**2 * rest.var(ddof=1) / 900 + (y - trust * f).var(ddof=1) / 100
    from scipy.stats import t

    assert found.estimate.lower == pytest.approx(mean - t.ppf(0.95, 99) * variance**0.5)
    assert found.bias == pytest.approx(f.mean() - y.mean())


def test_a_useless_judge_leaves_what_people_say() -> None:
    y = (RNG.random(80) < 0.7).astype(float)
    found = corrected_mean(y, np.ones(80), others=np.ones(500))
    people = mean_t_bounds(y, None)
    assert people is not None
    assert found.trust == 0
    assert (found.estimate.lower, found.estimate.mean) == pytest.approx((people.lower, people.mean))
    alone = corrected_mean(y, y, others=[])
    assert alone.trust == 0
    assert alone.estimate.mean == pytest.approx(people.mean)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_constant_bias_of_the_judge_cancels(seed: int) -> None:
    """PPI's point: what the judge adds to everything is taken away again, where it is trusted."""
    rng = np.random.default_rng(seed)
    y, f, rest = rng.random(40) * 0.5, rng.random(40) * 0.5, rng.random(200) * 0.5
    plain = corrected_mean(y, f, others=rest)
    shifted = corrected_mean(y, f + 0.3, others=rest + 0.3)
    assert shifted.estimate.mean == pytest.approx(plain.estimate.mean)
    assert shifted.estimate.lower == pytest.approx(plain.estimate.lower)
    assert shifted.bias == pytest.approx(plain.bias + 0.3)


@pytest.mark.parametrize(
    ("is_difference", "each"),
    [(False, 1), (False, 4), (True, 1)],
    ids=["scores", "scores, four a source", "differences"],
)
def test_it_covers_where_the_judge_alone_does_not(*, is_difference: bool, each: int) -> None:
    """A judge that passes 45 % of what people fail; 100 labels, 1,000 judged."""
    rng = np.random.default_rng(10)
    worlds, misses, judge_misses, widths, people = 300, 0, 0, 0.0, 0.0
    for _ in range(worlds):
        table = judged(rng, 1100 // each, sens=0.95, spec=0.55)
        truth = 0.70
        if is_difference:  # against a baseline that the judge does not flatter
            base = judged(rng, 1100, sens=0.9, spec=0.9)
            table, truth = table - base, 0.0
        table = np.repeat(table, each, axis=0)
        clusters = np.arange(len(table)) // each
        n = 100 * each
        found = corrected_mean(
            table[:n, 0], table[:n, 1], others=table[n:, 1], clusters=clusters[:n],
            other_clusters=clusters[n:], is_difference=is_difference,
        )  # fmt: skip
        misses += not found.estimate.lower <= truth <= found.estimate.upper
        alone = mean_t_bounds(table[:, 1], clusters)
        only = mean_t_bounds(table[:n, 0], clusters[:n])
        assert alone is not None
        assert only is not None
        judge_misses += not alone.lower <= truth <= alone.upper
        widths += found.estimate.upper - found.estimate.lower
        people += only.upper - only.lower
    assert misses <= 45  # 10 % is promised of two bounds: P = .003
    assert judge_misses >= 290
    assert widths < people


def test_what_cannot_be_corrected_is_refused() -> None:
    with pytest.raises(UsageError, match="below 10"):
        corrected_mean([1.0] * 9, [1.0] * 9, others=[1.0])
    with pytest.raises(UsageError, match="align"):
        corrected_mean([1.0] * 20, [1.0] * 19, others=[1.0])
    with pytest.raises(UsageError, match="without gaps"):
        corrected_mean([-1.0] * 20, [1.0] * 20, others=[1.0])
    assert corrected_mean([-1.0] * 20, [1.0] * 20, others=[1.0], is_difference=True).bias == 2
    one = corrected_mean([1.0] * 20, [1.0] * 20, others=[1.0], clusters=["a"] * 20)
    assert (one.estimate.lower, one.estimate.upper) == (0, 1)


def test_labels_that_all_agree_prove_little() -> None:
    found = corrected_mean([1.0] * 50, [1.0] * 50, others=[1.0] * 500)
    assert found.estimate.lower < 0.97
