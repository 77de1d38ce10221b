"""The chance that the next tries reach the target, against the classical prediction bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from harness.core.reach import (
    is_climbing,
    lift_low_outliers,
    reach_chance,
    trend,
    window_size,
)

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("tries", "window"), [(3, 3), (7, 7), (10, 10), (14, 10), (21, 11), (50, 25)]
)
def test_the_window_is_the_later_half_but_at_least_ten(tries: int, window: int) -> None:
    assert window_size(tries) == window


def test_without_case_noise_and_slope_it_is_the_t_prediction_bound() -> None:
    """P(next >= target) = P(t_{m-2} >= (target - mean) / (s sqrt(1 + 1/m))), slope kept at 0."""
    means = np.array([0.52, 0.48, 0.50, 0.53, 0.47, 0.47, 0.53, 0.50, 0.48, 0.52])  # mirrored
    line = trend(means)
    assert line is not None
    assert line.slope == pytest.approx(0, abs=1e-12)
    s = line.residual_variance**0.5
    # slopes below 0 are lifted to 0, so the model only errs upwards: reach bounds the classic
    classic = stats.t.sf((0.56 - means.mean()) / (s * (1 + 1 / 10) ** 0.5), df=8)
    found = reach_chance(means, np.zeros((10, 10)), target=0.56, horizon=1, draws=20_000)
    assert found is not None
    assert classic - 0.005 <= found <= 3 * classic


def test_the_trend_is_that_of_scipy() -> None:
    means = RNG.random(12)
    line = trend(means)
    assert line is not None
    fit = stats.linregress(np.arange(12), means, alternative="greater")
    assert line.slope == pytest.approx(fit.slope)
    assert line.p_value == pytest.approx(fit.pvalue)


def test_below_three_tries_nothing_is_known() -> None:
    assert trend(np.array([0.1, 0.2])) is None
    assert reach_chance(np.array([0.1, 0.2]), np.eye(2), target=0.5, horizon=1) is None


def test_a_straight_rise_climbs_and_a_flat_line_does_not() -> None:
    rising = trend(np.linspace(0.3, 0.5, 7))
    assert is_climbing(rising, tries=7, gap=0.1)
    assert not is_climbing(rising, tries=7, gap=0.4)  # too slow to get there
    assert not is_climbing(rising, tries=7, gap=-0.1)  # there already
    assert not is_climbing(trend(np.full(7, 0.3)), tries=7, gap=0.1)


def test_ten_tries_at_nought_reach_nothing() -> None:
    found = reach_chance(np.zeros(10), np.zeros((10, 10)), target=0.5, horizon=2)
    assert found == pytest.approx(0, abs=1e-9)


def test_silly_prompts_do_not_widen_the_upper_tail() -> None:
    good = np.array([0.60, 0.61, 0.59, 0.62, 0.60, 0.58, 0.61, 0.60, 0.59])
    assert lift_low_outliers(np.append(good, 0.05)).min() > 0.5
    assert lift_low_outliers(np.append(good, 0.75)).max() == 0.75
    no_noise = np.zeros((10, 10))
    silly = reach_chance(np.append(good, 0.0), no_noise, target=0.75, horizon=2)
    sober = reach_chance(np.append(good, 0.56), no_noise, target=0.75, horizon=2)
    assert silly == pytest.approx(sober, abs=0.01)


def test_where_most_means_are_equal_nothing_is_lifted() -> None:
    means = np.array([0.5] * 6 + [0.2, 0.3])
    assert lift_low_outliers(means).tolist() == means.tolist()


@given(
    means=st.lists(st.floats(0.2, 0.6), min_size=5, max_size=12),
    target=st.floats(0.3, 0.9),
    further=st.floats(0.01, 0.1),
)
@settings(max_examples=40)
def test_a_nearer_target_and_a_longer_horizon_are_likelier(
    means: list[float], target: float, further: float
) -> None:
    x = np.array(means)
    cov = np.full((len(x), len(x)), 1e-4) + np.eye(len(x)) * 1e-4
    near = reach_chance(x, cov, target=target, horizon=1)
    far = reach_chance(x, cov, target=target + further, horizon=1)
    longer = reach_chance(x, cov, target=target, horizon=3)
    assert near is not None
    assert far is not None
    assert longer is not None
    assert 0 <= far <= near + 1e-12 <= longer + 2e-12 <= 1 + 2e-12
    assert reach_chance(x, cov, target=target, horizon=1) == near


def test_endless_cases_leave_the_luck_of_the_cases_out() -> None:
    """Spread that the cases alone explain says nothing of better prompts."""
    means = np.array([0.66, 0.70, 0.74, 0.68, 0.72, 0.70, 0.66, 0.74, 0.69, 0.71])
    cov = np.eye(10) * 0.03**2 + np.full((10, 10), 0.02**2)
    now = reach_chance(means, cov, target=0.78, horizon=2)
    endless = reach_chance(means, cov, target=0.78, horizon=2, has_endless_cases=True)
    assert now is not None
    assert endless is not None
    assert endless < now
