"""Bounds against other people's code, and properties that must hold for any scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from harness.core.bounds import (
    as_scores,
    at_worst,
    cluster_codes,
    clustered_errors,
    clustered_means,
    effective_clusters,
    join_repeated_cases,
    korn_graubard,
    largest_cluster_share,
    log_ratio_bounds,
    max_t_alpha,
    mean_bounds,
    mean_t_bounds,
    missing_share,
    paired_bounds,
    paired_error,
    quantile_lower,
    quantile_upper,
)
from harness.errors import UsageError

RNG = np.random.default_rng(20_261_101)

score_lists = npst.arrays(
    np.float64,
    st.integers(2, 60),
    elements=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=16)),
)
alphas = st.floats(0.001, 0.4)


# ---------------------------------------------------------------- other people's code


def test_clustered_covariance_is_that_of_statsmodels() -> None:
    """OLS on a constant with cluster covariance, its small-sample factor G/(G-1) N/N."""
    import statsmodels.api as sm

    scores = RNG.integers(0, 2, size=(120, 3)).astype(float)
    clusters = RNG.integers(0, 17, size=120)
    _, cov, groups = clustered_means(scores, clusters)
    assert groups == 17
    for k in range(3):
        fit = sm.OLS(scores[:, k], np.ones(120)).fit(
            cov_type="cluster", cov_kwds={"groups": clusters, "df_correction": True}
        )
        assert math.sqrt(cov[k, k]) == pytest.approx(fit.bse[0], rel=1e-9)


def test_independent_cases_give_the_textbook_covariance() -> None:
    scores = RNG.random((80, 4))
    means, cov, _ = clustered_means(scores, None)
    assert cov == pytest.approx(np.cov(scores.T) / 80)
    assert means == pytest.approx(scores.mean(axis=0))


def test_korn_graubard_is_clopper_pearson_at_its_effective_size() -> None:
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    scores = (RNG.random(150) < 0.7).astype(float)
    clusters = np.repeat(np.arange(30), 5)
    found = mean_bounds(scores, clusters, alpha=0.05)
    _, errors, groups = clustered_errors(scores, clusters)
    p = scores.mean()
    n_eff = p * (1 - p) / errors[0] ** 2
    n_eff *= (stats.norm.ppf(0.95) / stats.t.ppf(0.95, groups - 1)) ** 2
    low, high = proportion_confint(p * n_eff, n_eff, alpha=0.10, method="beta")
    assert found.lower == pytest.approx(low, abs=1e-12)
    assert found.upper == pytest.approx(high, abs=1e-12)


def test_t_bounds_are_those_of_scipy() -> None:
    from scipy import stats

    values = RNG.lognormal(size=40)
    found = mean_t_bounds(values, None, alpha=0.05)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.90)
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx((low, high))


def test_without_pairs_that_both_gain_and_lose_mover_is_newcombes_square_and_add() -> None:
    """No loss at all: the lower bound joins the gain's own bound and `3 in 100` for the losses."""
    d = np.array([1.0] * 20 + [0.0] * 80)
    found = paired_bounds(d, None, alpha=0.05)
    gain = mean_bounds(d, None, alpha=0.05)
    no_loss = mean_bounds(np.zeros(100), None, alpha=0.05)
    expected = 0.2 - math.hypot(0.2 - gain.lower, no_loss.upper)
    assert found.lower == pytest.approx(expected)
    assert found.upper == pytest.approx(gain.upper)


# ---------------------------------------------------------------- properties


@given(scores=score_lists, alpha=alphas)
def test_bounds_hold_the_mean_and_stay_in_range(scores: np.ndarray, alpha: float) -> None:
    found = mean_bounds(scores, None, alpha=alpha)
    assert 0 <= found.lower <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.upper <= 1


@given(scores=score_lists, alpha=alphas, stricter=st.floats(0.05, 0.95))
def test_a_smaller_alpha_never_narrows(scores: np.ndarray, alpha: float, stricter: float) -> None:
    wide = mean_bounds(scores, None, alpha=alpha * stricter)
    narrow = mean_bounds(scores, None, alpha=alpha)
    assert wide.lower <= narrow.lower + 1e-9
    assert wide.upper >= narrow.upper - 1e-9


@given(scores=score_lists, seed=st.integers(0, 99), groups=st.integers(2, 9))
def test_the_order_of_cases_does_not_matter(scores: np.ndarray, seed: int, groups: int) -> None:
    clusters = [f"c{i % groups}" for i in range(len(scores))]
    order = np.random.default_rng(seed).permutation(len(scores))
    one = mean_bounds(scores, clusters)
    other = mean_bounds(scores[order], [clusters[i] for i in order])
    assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper), abs=1e-9)


@given(scores=score_lists)
def test_failures_mirror_successes(scores: np.ndarray) -> None:
    one, other = mean_bounds(scores, None), mean_bounds(1 - scores, None)
    assert one.lower == pytest.approx(1 - other.upper, abs=1e-6)


@given(a=score_lists, seed=st.integers(0, 99), alpha=alphas)
def test_swapping_the_arms_mirrors_the_difference(a: np.ndarray, seed: int, alpha: float) -> None:
    b = np.random.default_rng(seed).permutation(a)
    one, other = (
        paired_bounds(a - b, None, alpha=alpha),
        paired_bounds(b - a, None, alpha=alpha),
    )
    assert one.lower == pytest.approx(-other.upper, abs=1e-9)
    assert -1 <= one.lower <= one.mean + 1e-12 <= one.upper + 2e-12 <= 1 + 2e-12


@given(scores=score_lists)
@settings(max_examples=30)
def test_counting_every_case_twice_in_its_cluster_adds_no_evidence(scores: np.ndarray) -> None:
    names = np.arange(len(scores))
    once = mean_bounds(scores, names)
    twice = mean_bounds(np.tile(scores, 2), np.tile(names, 2))
    assert (once.lower, once.upper) == pytest.approx((twice.lower, twice.upper), abs=1e-7)


@given(table=npst.arrays(np.float64, (25, 4), elements=st.sampled_from([0.0, 1.0])))
@settings(max_examples=30)
def test_all_planned_tries_together_leave_each_less(table: np.ndarray) -> None:
    _, cov, groups = clustered_means(table, None)
    assert 0.05 / 50 <= max_t_alpha(cov, groups, draws=200) <= 0.05


# ---------------------------------------------------------------- edges


def test_eight_of_eight_prove_nothing_and_a_perfect_hundred_little() -> None:
    assert mean_bounds([1.0] * 8, None).lower < 0.70
    assert mean_bounds([0.0] * 100, None).upper == pytest.approx(0.03, abs=0.001)


def test_one_cluster_bounds_nothing() -> None:
    found = mean_bounds([1.0, 0.0, 1.0], ["a", "a", "a"])
    assert (found.lower, found.upper, found.clusters) == (0.0, 1.0, 1)
    difference = paired_bounds([1.0, 0.0], ["a", "a"])
    assert (difference.lower, difference.upper) == (-1.0, 1.0)
    assert mean_t_bounds([1.0, 2.0], ["a", "a"]) is None


def test_equal_arms_are_never_shown_to_differ() -> None:
    found = paired_bounds(np.zeros(300), None)
    assert found.mean == 0
    assert found.upper == -found.lower == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("bad", [[1.2], [-0.1], [math.inf], [5]])
def test_scores_outside_zero_to_one_are_refused(bad: list[float]) -> None:
    with pytest.raises(UsageError, match="scores lie in"):
        mean_bounds(bad, None)


def test_missing_scores_are_refused_until_somebody_decides() -> None:
    with pytest.raises(UsageError, match="at_worst"):
        mean_bounds([1.0, None, 0.0], None)
    assert at_worst([1.0, None, 0.0], missing=1.0).tolist() == [1, 1, 0]
    assert at_worst([1.0, None, 0.0], missing=0.0).tolist() == [1, 0, 0]
    assert missing_share([1.0, None, 0.0, 1.0]) == 0.25


def test_no_cases_an_odd_alpha_and_a_missing_cluster_name_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="no cases"):
        mean_bounds([], None)
    with pytest.raises(UsageError, match="alpha"):
        mean_bounds([1.0, 0.0], None, alpha=0.5)
    with pytest.raises(UsageError, match="1 cluster names for 2 cases"):
        mean_bounds([1.0, 0.0], ["a"])
    with pytest.raises(UsageError, match="-1, 1"):
        paired_bounds([2.0], None)


def test_a_case_without_a_cluster_name_is_its_own_cluster() -> None:
    codes, groups = cluster_codes(["a", "", "a", "", "b"], 5)
    assert groups == 4
    assert codes[0] == codes[2]
    assert codes[1] != codes[3]


def test_the_same_content_in_two_clusters_makes_them_one() -> None:
    joined = join_repeated_cases(["a", "b", "", "", "c"], ["x", "x", "y", "y", "z"])
    assert joined[0] == joined[1]
    assert joined[2] == joined[3]
    assert len(set(joined)) == 3


def test_effective_clusters_and_the_largest_share() -> None:
    sizes = ["a"] * 50 + [f"c{i}" for i in range(50)]
    assert effective_clusters(sizes) == pytest.approx(100**2 / (50**2 + 50))
    assert largest_cluster_share(sizes, 100) == 0.5
    assert effective_clusters(None, 40) == 40


def test_scores_that_rounding_pushed_out_of_range_are_clipped() -> None:
    assert as_scores([1 + 1e-12, -1e-12]).tolist() == [1.0, 0.0]


def test_the_error_of_equal_arms_is_nought_and_of_one_cluster_endless() -> None:
    assert paired_error(np.zeros(10), None) == 0
    assert paired_error(np.zeros(10), ["a"] * 10) == math.inf


def test_bounds_of_many_columns_come_in_one_call() -> None:
    low, high = korn_graubard([0.5, 1.0], [0.05, 0.0], groups=100, alpha=0.05)
    assert low[0] < 0.5 < high[0]
    assert low[1] == pytest.approx(0.97, abs=0.001)
    assert high[1] == 1


# ---------------------------------------------------------------- the best of many


def test_the_planned_number_decides_and_not_the_number_so_far() -> None:
    cov = np.full((3, 3), 0.25e-4) + np.eye(3) * 0.75e-4
    few = max_t_alpha(cov, 200, planned=3)
    many = max_t_alpha(cov, 200, planned=50)
    assert 0.05 / 50 <= many < few < 0.05


def test_one_planned_try_needs_no_correction() -> None:
    assert max_t_alpha(np.array([[1e-4]]), 100, planned=1) == 0.05


def test_twins_cost_one_try() -> None:
    """Perfectly correlated tries are one try, whatever their number."""
    assert max_t_alpha(np.full((10, 10), 1e-4), 500, planned=10) == pytest.approx(0.05, rel=0.2)


def test_the_largest_of_independent_tries_costs_what_sidak_says() -> None:
    found = max_t_alpha(np.eye(20) * 1e-4, 100_000, planned=20, draws=20_000)
    assert found == pytest.approx(1 - 0.95 ** (1 / 20), rel=0.1)


def test_the_same_seed_gives_the_same_alpha() -> None:
    _, cov, groups = clustered_means((RNG.random((60, 5)) < 0.5).astype(float), None)
    assert max_t_alpha(cov, groups, seed=3) == max_t_alpha(cov, groups, seed=3)


# ---------------------------------------------------------------- latency and cost


@pytest.mark.parametrize(("q", "least"), [(0.95, 59), (0.99, 299)])
def test_a_quantile_has_an_upper_bound_only_from_enough_cases(q: float, least: int) -> None:
    assert quantile_upper(np.arange(least - 1), q=q) is None
    assert quantile_upper(np.arange(least), q=q) == least - 1


def test_quantile_bounds_cover_as_often_as_they_say() -> None:
    above = below = 0
    for _ in range(400):
        values = RNG.exponential(size=120)
        truth = -math.log(0.05)
        upper, lower = quantile_upper(values), quantile_lower(values)
        assert upper is not None
        assert lower is not None
        assert lower <= upper
        above += upper < truth
        below += lower > truth
    assert above <= 400 * 0.05 + 14
    assert below <= 400 * 0.05 + 14


def test_quantile_bounds_count_sources_where_latencies_clump_by_source() -> None:
    above = below = 0
    sources = np.repeat(np.arange(75), 4)
    for _ in range(300):
        shared = RNG.standard_normal(75)[sources]
        values = np.exp(math.sqrt(0.5) * shared + math.sqrt(0.5) * RNG.standard_normal(300))
        truth = math.exp(1.6448536269514722)
        upper, lower = quantile_upper(values, sources), quantile_lower(values, sources)
        assert upper is not None
        assert lower is not None
        above += upper < truth
        below += lower > truth
    # by the order statistic, as if there were 300 sources, about 30
    assert above <= 300 * 0.05 + 12
    assert below <= 300 * 0.05 + 12


def test_ten_cases_of_each_of_thirty_sources_are_thirty_sources() -> None:
    values = np.arange(300.0)
    assert quantile_upper(values, np.arange(300)) is not None
    assert quantile_upper(values, np.repeat(np.arange(30), 10)) is None


def test_half_the_cost_is_a_log_ratio_below_nought() -> None:
    baseline = RNG.lognormal(size=50)
    found = log_ratio_bounds(
        baseline * RNG.uniform(0.4, 0.6, size=50), baseline, np.repeat(np.arange(25), 2)
    )
    assert found is not None
    assert found.clusters == 25
    assert found.upper < 0
    assert math.exp(found.mean) == pytest.approx(0.5, abs=0.05)


def test_a_free_arm_has_no_ratio() -> None:
    assert log_ratio_bounds([0.0, 1.0], [1.0, 1.0], None) is None
