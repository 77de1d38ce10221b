"""The 2 x 2 of two factors: what each does, and whether they add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.core.bounds import Array
from harness.core.factorial import contrast, factorial
from harness.core.pairs import Pair, delta_bounds
from harness.errors import UsageError


def arms(n: int, rates: tuple[float, float, float, float], *, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 4)) < np.array(rates)).astype(float)


def test_an_effect_of_one_factor_is_the_paired_difference_of_two_runs() -> None:
    table = arms(120, (0.4, 0.6, 0.5, 0.9))
    clusters = [f"k{n // 3}" for n in range(120)]
    found = factorial(table, clusters)
    pair = Pair(name="x", candidate=table[:, 1], baseline=table[:, 0], clusters=clusters)
    assert found.first_alone.estimate == delta_bounds(pair)
    pair = Pair(name="x", candidate=table[:, 3], baseline=table[:, 1], clusters=clusters)
    assert found.second_given_first.estimate == delta_bounds(pair)


def test_the_interaction_is_the_difference_of_differences_and_agrees_with_least_squares() -> None:
    import statsmodels.api as sm

    table = arms(400, (0.3, 0.5, 0.5, 0.95), seed=1)
    found = factorial(table, None).interaction.estimate
    differences = table[:, 3] - table[:, 2] - table[:, 1] + table[:, 0]
    ols = sm.OLS(differences, np.ones(400)).fit()
    assert found.mean == pytest.approx(float(ols.params[0]))
    lower, upper = ols.conf_int(alpha=0.1)[0]
    # MOVER-KG is the wider one, by little at this size
    assert lower - 0.04 < found.lower <= lower + 0.002
    assert upper - 0.002 <= found.upper < upper + 0.04


def test_effects_that_add_up_have_no_shown_interaction_in_95_of_100_evals() -> None:
    shown = 0
    for seed in range(100):
        e = factorial(arms(80, (0.3, 0.5, 0.5, 0.7), seed=seed), None).interaction.estimate
        shown += e.lower > 0
        shown += e.upper < 0
    assert shown <= 17  # two sides at 5 %: P(more than 17 of 100) is 1 %


def test_what_is_missing_is_taken_at_its_worst_for_either_bound() -> None:
    table = arms(60, (0.4, 0.6, 0.5, 0.9))
    whole = factorial(table, None).interaction.estimate
    holes: Any = table.copy()
    holes[0] = math.nan
    found = contrast(holes, (1, -1, -1, 1), None)
    assert found.n == 59
    assert found.lower < whole.lower
    assert found.upper > whole.upper


def test_four_arms_are_needed() -> None:
    with pytest.raises(UsageError, match="four arms"):
        factorial([[1.0, 0.0]], None)
