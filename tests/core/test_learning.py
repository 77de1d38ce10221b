"""A learning curve: what is fitted is what was there, and nothing is read off too few points."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.learning import curve_lines, fitted_gain, learning_curve

ROWS = (25, 50, 100, 200)


def power_law(n: float, *, top: float = 0.9, scale: float = 2.0, decay: float = 0.6) -> float:
    return top - scale * n**-decay


def test_the_fit_finds_an_inverse_power_law() -> None:
    means = np.array([[power_law(n) for n in ROWS]])
    found = float(fitted_gain(ROWS, means, to_rows=400)[0])
    assert found == pytest.approx(power_law(400) - power_law(200), abs=0.003)


def test_a_curve_that_falls_promises_nothing_and_one_at_the_top_no_more_than_is_left() -> None:
    means = np.array([[0.8, 0.7, 0.6, 0.5], [0.4, 0.7, 0.95, 1.0]])
    assert fitted_gain(ROWS, means, to_rows=400) == pytest.approx([0, 0], abs=1e-9)


def scores(means: list[float], *, cases: int = 400) -> np.ndarray:
    """A case that is solved with few rows stays solved with more."""
    ranks = (np.arange(cases)[:, None] + 0.5) / cases
    return (ranks < np.array(means)[None, :]).astype(float)


def test_four_points_forecast_with_bounds_and_three_only_tell_the_trend() -> None:
    table = scores([power_law(n) for n in ROWS])
    whole = learning_curve(ROWS, table, None, available=1000)
    assert whole.forecast is not None
    assert whole.more_rows == 200  # never beyond twice the rows
    gain = power_law(400) - power_law(200)
    assert whole.forecast.lower <= gain <= whole.forecast.upper
    assert (
        "about 200 more rows (they are there) would help by"
        in curve_lines(whole, available=1000)[-1]
    )
    part = learning_curve(ROWS[:3], table[:, :3], None, available=100)
    assert part.forecast is None
    lines = curve_lines(part, available=100)
    assert "rows still help" in lines[-2]
    assert "(to be collected): 3 points tell a trend" in lines[-1]


def test_the_last_step_is_paired_and_clustered() -> None:
    flat = learning_curve((10, 20), scores([0.5, 0.5]), None, available=40)
    assert flat.last_step is not None
    assert flat.last_step.mean == 0
    assert "not shown on these cases whether rows still help" in "".join(
        curve_lines(flat, available=40)
    )
    table = scores([0.5, 0.6])
    alone = learning_curve((10, 20), table, None, available=40).last_step
    twenty = [n // 20 for n in range(400)]
    few = learning_curve((10, 20), table, [str(n) for n in twenty], available=40).last_step
    assert alone is not None
    assert few is not None
    assert alone.lower > 0 > few.lower


def test_scores_that_are_all_the_same_forecast_nothing() -> None:
    nothing_right = learning_curve(ROWS, scores([0, 0, 0, 0], cases=40), None, available=1000)
    assert nothing_right.forecast is None
    assert curve_lines(nothing_right, available=1000)[-1] == (
        "about 200 more rows (they are there): every score was the same, so that there is no curve "
        "to read off"
    )
