"""Numbers that people round: heaps on favourite values, and crowds just below a threshold.

Knows nothing of rows. Each question is asked against what a smooth spread of the same numbers
would give, and answered with an interval or a chance. Values are counted in units of their
resolution (the smallest decimal place that nearly all of them keep to).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

LEAST = 50
LEAST_DISTINCT = 20
STEPS = (2, 4, 5, 10, 20, 25, 50, 100, 250, 500, 1000, 5000, 10000)
CHANCE = 0.001
"""How likely a smooth set may be called heaped, or crowded below a threshold, by chance."""
NEARBY = 0.1
"""Width of the bins on both sides of a threshold, as a share of it."""

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heaps:
    """`share` of `n` values (with its 95 % bounds) stand on `values`, most frequent first; smooth,
    `expected` of them would.
    """

    n: int
    share: float
    lower: float
    upper: float
    expected: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """`share` of `n` values (with its 95 % bounds) are multiples of `step`; smooth, `expected`."""

    n: int
    step: float
    share: float
    lower: float
    upper: float
    expected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """`below` values stand in the tenth below `threshold`, `above` in that above it; the slope of
    the numbers around would put `expected` of both together below. The threshold itself counts
    for neither. `chance` is how likely so many are by the slope alone.
    """

    threshold: float
    below: int
    above: int
    expected: float
    chance: float


def resolution(values: Sequence[float]) -> float:
    """Return the smallest decimal place that 98 % of the values keep to: 1, 0.1, 0.01 or less."""
    numbers = np.asarray(values, dtype=np.float64)
    for digits in range(5):
        scaled = numbers * 10**digits
        if np.mean(np.abs(scaled - np.rint(scaled)) < 1e-6 * np.maximum(1, np.abs(scaled))) >= 0.98:
            return float(10**-digits)
    return 1e-5


def _units(values: Sequence[float]) -> tuple[Counts, float]:
    """Return positive values in units of their resolution, and that resolution."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers) & (numbers > 0) & (numbers < 1e12)]
    if len(numbers) < LEAST:
        return np.zeros(0, dtype=np.int64), 1.0
    unit = resolution(numbers.tolist())
    units = np.rint(numbers / unit).astype(np.int64)
    return units[units > 0], unit


def heaps(values: Sequence[float]) -> Heaps | None:
    """Return the heaps among the values; None where there are too few values, or no heap.

    A value is a heap where it stands more often than its neighbourhood explains (the values within
    a fifth of it, itself left out, spread evenly): Poisson, the chance shared by all values.
    """
    from scipy.stats import poisson

    units, unit = _units(values)
    distinct, counts = np.unique(units, return_counts=True)
    if len(distinct) < LEAST_DISTINCT:
        return None
    total = np.concatenate(([0], np.cumsum(counts)))
    reach = np.maximum(5, np.rint(distinct * 0.2)).astype(np.int64)
    low = np.searchsorted(distinct, distinct - reach, side="left")
    high = np.searchsorted(distinct, distinct + reach, side="right")
    # a neighbourhood does not go below 1, nor beyond the numbers that there are
    bottom = np.maximum(distinct - reach, distinct[0])
    top = np.minimum(distinct + reach, distinct[-1])
    around = total[high] - total[low] - counts
    rates = np.maximum(around, 1) / np.maximum(top - bottom, 1)
    chances = poisson.sf(counts - 1, rates)
    is_heap = (chances < CHANCE / len(distinct)) & (counts >= 5)
    if not is_heap.any():
        return None
    n, on = int(counts.sum()), int(counts[is_heap].sum())
    lower, upper = _interval(on, n)
    order = np.argsort(-counts[is_heap], kind="stable")
    return Heaps(
        n=n,
        share=on / n,
        lower=lower,
        upper=upper,
        expected=float(np.minimum(rates, counts)[is_heap].sum() / n),
        values=tuple(round(float(v) * unit, 6) for v in distinct[is_heap][order]),
    )


def roundings(values: Sequence[float]) -> list[Rounding]:
    """Return the steps whose multiples are too frequent, the largest excess first.

    Each run of `step` numbers around a multiple holds one multiple, so that a smooth spread puts
    1 / step of the values there, whatever its slope; values below half a step are left out.
    """
    units, unit = _units(values)
    if len(np.unique(units)) < LEAST_DISTINCT:
        return []
    found = []
    for step in STEPS:
        fit = units[units >= step / 2]
        if len(fit) < LEAST:
            break
        hits = int(np.count_nonzero(fit % step == 0))
        lower, upper = _interval(hits, len(fit))
        strict, _ = _interval(hits, len(fit), chance=CHANCE / len(STEPS))
        if strict > 1 / step and hits / len(fit) >= 1 / step + 0.1:
            found.append(
                Rounding(
                    n=len(fit),
                    step=round(step * unit, 6),
                    share=hits / len(fit),
                    lower=lower,
                    upper=upper,
                    expected=1 / step,
                )
            )
    return sorted(found, key=lambda r: r.expected - r.share)


def crowds(values: Sequence[float], thresholds: Sequence[float] = ()) -> list[Crowd]:
    """Return the thresholds with a crowd just below, the least likely first.

    Tried are `thresholds`, and 1, 2 and 5 times the powers of ten within the values. Compared are
    the tenths of the threshold below and above it; the slope of the log density is that between
    the fifths which begin two tenths away, so that what was moved does not make it.
    Source: the idea of McCrary (2008), J. Econometrics 142:698-714, a jump of the density at a
    known point; here with counts and a normal approximation of the log of two ratios.
    """
    from scipy.stats import norm

    numbers = np.asarray(values, dtype=np.float64)
    numbers = np.sort(numbers[np.isfinite(numbers) & (numbers > 0)])
    if len(numbers) < LEAST:
        return []
    first, last = math.floor(math.log10(numbers[0])), math.ceil(math.log10(numbers[-1]))
    own = [m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5)]
    tried = sorted({*own, *thresholds})
    step = resolution(numbers.tolist())
    found = []
    for threshold in tried:
        width = threshold * NEARBY
        if width < 2 * step - 1e-9:
            continue
        below = _between(numbers, threshold - width, threshold, is_below=True)
        above = _between(numbers, threshold, threshold + width)
        low = _between(numbers, threshold - 4 * width, threshold - 2 * width, is_below=True)
        high = _between(numbers, threshold + 2 * width, threshold + 4 * width)
        if below + above < 20 or min(low, high) < 5:
            continue
        slope = math.log(low / high) / 6  # of the log density, over one width: they are 6 apart
        share = 1 / (1 + math.exp(-slope))
        excess = math.log((below + 0.5) / (above + 0.5)) - slope
        spread = math.sqrt(1 / (below + 0.5) + 1 / (above + 0.5) + (1 / low + 1 / high) / 36)
        chance = float(norm.sf(excess / spread))
        if chance < CHANCE / len(tried) and below > 1.5 * share * (below + above):
            found.append(
                Crowd(
                    threshold=round(threshold, 6),
                    below=below,
                    above=above,
                    expected=share * (below + above),
                    chance=min(1.0, chance * len(tried)),
                )
            )
    return sorted(found, key=lambda c: c.chance)


def _between(numbers: Numbers, low: float, high: float, *, is_below: bool = False) -> int:
    """Count sorted numbers from `low` to `high`: the end away from the threshold belongs to it."""
    side: Literal["left", "right"] = "left" if is_below else "right"
    nudge = -1e-9 if is_below else 1e-9
    return int(
        np.searchsorted(numbers, high + nudge, side=side)
        - np.searchsorted(numbers, low + nudge, side=side)
    )


def _interval(hits: int, n: int, *, chance: float = 0.05) -> tuple[float, float]:
    from scipy.stats import beta

    lower = float(beta.ppf(chance / 2, hits, n - hits + 1)) if hits else 0.0
    upper = float(beta.ppf(1 - chance / 2, hits + 1, n - hits)) if hits < n else 1.0
    return lower, upper
