"""Will the next tries reach the target? Knows means and their noise, no names.

The window is the last m = min(K, max(10, ceil(K/2))) tries. Means move by the luck of the cases
(known from the clustered covariance) and by the prompts themselves; only the second can lift a
later try, so the first is taken out. Source of the procedure and of its error rates: simulated,
`docs/statistics.md`; with no noise and no slope it is the classical t prediction bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.core.bounds import Array, t_quantile

SPREAD_FLOOR = 0.25  # share of the observed spread that always counts as the prompts' own
OUTLIER_MADS = 2.5 * 1.4826  # MADs scaled to a standard deviation
TREND_ALPHA = 0.10
REACH_LIMIT = 0.05


def window_size(tries: int) -> int:
    """Return m, how many of the last tries are read."""
    return min(tries, max(10, math.ceil(tries / 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A line through means in time order. `slope` is points a try, `p_value` one-sided upward."""

    slope: float
    p_value: float
    residual_variance: float


def trend(means: Array) -> Trend | None:
    """Return the least-squares line on try number (df = m-2), or None below three tries."""
    from scipy import special

    m = len(means)
    if m < 3:
        return None
    time = np.arange(m) - (m - 1) / 2
    spread = float(time @ time)
    slope = float(time @ means) / spread
    residual = means - means.mean() - slope * time
    variance = float(residual @ residual) / (m - 2)
    if variance <= 1e-18:
        p_value = 0.0 if slope > 1e-9 else 1.0
    else:
        p_value = 1 - float(special.stdtr(m - 2, slope / math.sqrt(variance / spread)))
    return Trend(slope=slope, p_value=p_value, residual_variance=variance)


def is_climbing(line: Trend | None, *, tries: int, gap: float) -> bool:
    """Tell whether the trend, kept up for as many tries again, would close the gap (> 0)."""
    return line is not None and line.p_value <= TREND_ALPHA and line.slope * tries >= gap > 0


def lift_low_outliers(means: Array) -> Array:
    """Return means with silly prompts lifted to median - 2.5 MAD: they say nothing of the top.

    The MAD is scaled to a standard deviation. Where more than half of the means are equal it is 0
    and nothing is lifted.
    """
    median = float(np.median(means))
    mad = float(np.median(np.abs(means - median)))
    return np.maximum(means, median - OUTLIER_MADS * mad) if mad > 0 else means


def reach_chance(
    means: Array,
    cov: Array,
    *,
    target: float,
    horizon: int,
    draws: int = 2000,
    seed: int = 0,
    has_endless_cases: bool = False,
) -> float | None:
    """Return P(best of the next `horizon` tries >= target), or None below three tries.

    Shapes: m means of the window in time order; m x m covariance of their case noise.
    Model: level + slope t + N(0, prompt spread), Jeffreys prior, slope not below 0. With
    `has_endless_cases` the case noise is left out: what would remain with endless cases, that is
    whether search or noise is the limit. The tail of each draw is exact, not drawn.
    """
    from scipy import special

    lifted = lift_low_outliers(means)
    line = trend(lifted)
    if line is None:
        return None
    m, df = len(means), len(means) - 2
    total = float(cov.sum())
    own = float(np.trace(cov))
    noise = own / m - (total - own) / (m * (m - 1))
    time_spread = m * (m * m - 1) / 12

    rng = np.random.default_rng(seed)
    seen = line.residual_variance * df / rng.chisquare(df, size=draws)
    prompts = np.maximum(seen - noise, SPREAD_FLOOR * seen)
    around = prompts if has_endless_cases else seen
    shared = 0.0 if has_endless_cases else max(total / m**2 - noise / m, 0.0)
    level = float(lifted.mean()) + rng.standard_normal(draws) * np.sqrt(around / m + shared)
    slope = line.slope + rng.standard_normal(draws) * np.sqrt(around / time_spread)
    steps = (m - 1) / 2 + np.arange(1, horizon + 1)
    short = target - level[:, None] - np.maximum(slope, 0.0)[:, None] * steps
    sigma = np.sqrt(np.maximum(prompts, 1e-18))[:, None]
    return float(1 - special.ndtr(short / sigma).prod(axis=1).mean())


def detectable_gain(pair_errors: Array, groups: int) -> float:
    """Return the paired gain that this eval sees with 80 % power at one-sided 5 %.

    Shape: standard errors of the differences to the best try, one a try.
    """
    factor = t_quantile(0.95, groups) + t_quantile(0.80, groups)
    return float(factor * np.median(pair_errors))
