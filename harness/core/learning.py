"""A learning curve: do more rows help? Knows scores by number of rows; no tuner and no model.

The curve is that of a pilot: nested subsets of the rows, each trained alike, scored on the same
cases. What it says of more rows is an extrapolation, and is not carried beyond twice the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.bounds import (
    Array,
    Clusters,
    at_worst,
    cluster_codes,
    means_bounds,
    paired_bounds,
)
from harness.core.words import count, percent, points
from harness.records import Estimate

FIT_POINTS = 4
DRAWS = 400
DECAYS = np.geomspace(0.05, 2.0, 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What training on so many rows scores."""

    rows: int
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """Points by rows; `last_step` is what the last doubling or so gained, case by case.

    `more_rows` is how many more were asked about and `forecast` what they would gain, by the fit;
    None with fewer than four points, whose fit would be exact and mean nothing, and where every
    score is the same.
    """

    points: tuple[CurvePoint, ...]
    last_step: Estimate | None
    more_rows: int
    forecast: Estimate | None = None


def learning_curve(
    rows: Sequence[int], scores: Array, clusters: Clusters, *, available: int, seed: int = 0
) -> LearningCurve:
    """Return the curve of `scores` over `rows`. Shapes: S, N x S; missing (NaN) counts as failed.

    `available` is how many rows there are: the forecast is for all of them, at most twice the last.

    With four points or more, score = a - b rows^-c is fitted by least squares (b >= 0, a <= 1);
    its bounds are 5 % and 95 % quantiles of fits to 400 draws of clusters with replacement.
    Source: Figueroa et al. (2012), BMC Medical Informatics and Decision Making 12:8.
    """
    table = at_worst(scores, missing=0.0)
    estimates = means_bounds(table, clusters)
    last = rows[-1]
    more = min(max(available - last, 0), last) or last
    last_step = None
    if len(rows) > 1:
        last_step = paired_bounds(table[:, -1] - table[:, -2], clusters)
    forecast = None
    if len(rows) >= FIT_POINTS and np.ptp(table) > 0:  # else every draw says the same, for certain
        forecast = _forecast(rows, table, clusters, to_rows=last + more, seed=seed)
    return LearningCurve(
        points=tuple(CurvePoint(rows=n, estimate=e) for n, e in zip(rows, estimates, strict=True)),
        last_step=last_step,
        more_rows=more,
        forecast=forecast,
    )


def _forecast(
    rows: Sequence[int], table: Array, clusters: Clusters, *, to_rows: int, seed: int
) -> Estimate:
    codes, groups = cluster_codes(clusters, len(table))
    sums = np.zeros((groups, table.shape[1]))
    np.add.at(sums, codes, table)
    sizes = np.bincount(codes, minlength=groups)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)
    drawn = (times @ sums) / (times @ sizes)[:, None]
    gains = fitted_gain(rows, np.vstack([table.mean(axis=0), drawn]), to_rows=to_rows)
    low, high = np.quantile(gains[1:], [0.05, 0.95])
    return Estimate(
        mean=float(gains[0]), lower=float(low), upper=float(high), n=len(table), clusters=groups
    )


def fitted_gain(rows: Sequence[int], means: Array, *, to_rows: int) -> Array:
    """Return what each fitted curve gains from the last number of rows to `to_rows`.

    Shapes: S, B x S in; B out.
    """
    x = np.asarray(rows, dtype=np.float64)[None, :] ** -DECAYS[:, None]  # C x S, falls with rows
    centred = x - x.mean(axis=1, keepdims=True)
    slopes = np.minimum(means @ centred.T / (centred**2).sum(axis=1), 0.0)  # B x C: -b
    tops = means.mean(axis=1, keepdims=True) - slopes * x.mean(axis=1)
    capped = np.minimum((means - 1) @ x.T / (x**2).sum(axis=1), 0.0)  # through a = 1
    slopes = np.where(tops > 1, capped, slopes)
    tops = np.minimum(tops, 1.0)
    fits = tops[:, :, None] + slopes[:, :, None] * x[None]
    errors = ((fits - means[:, None, :]) ** 2).sum(axis=2)
    best = errors.argmin(axis=1)
    ahead = float(to_rows) ** -DECAYS
    steps = slopes * (ahead - x[:, -1])
    gains = steps[np.arange(len(means)), best]
    return np.asarray(np.minimum(gains, 1 - means[:, -1]))  # what is left to gain


# ---------------------------------------------------------------- in words


def curve_lines(curve: LearningCurve, *, available: int) -> list[str]:
    """Return the curve, its trend, and what more rows would do."""
    lines = [
        f"{count(p.rows, 'row')}: {percent(p.estimate.mean)} "
        f"({percent(p.estimate.lower)} to {percent(p.estimate.upper)})"
        for p in curve.points
    ]
    step = curve.last_step
    if step is None:
        return [*lines, "one point is no curve"]
    first, last = curve.points[-2].rows, curve.points[-1].rows
    lines.append(f"from {first} to {last} rows: {_gain(step)}: {_trend(step)}")
    here = last + curve.more_rows <= available
    what = f"about {count(curve.more_rows, 'more row')}"
    what += " (they are there)" if here else " (to be collected)"
    if curve.forecast is None and len(curve.points) >= FIT_POINTS:
        lines.append(f"{what}: every score was the same, so that there is no curve to read off")
    elif curve.forecast is None:
        lines.append(f"{what}: {len(curve.points)} points tell a trend, and no curve to read off")
    else:
        lines.append(f"{what} would help by {_gain(curve.forecast)}, by an inverse power law")
    return lines


def _gain(step: Estimate) -> str:
    low, high = (points(x, is_signed=True) for x in (step.lower, step.upper))
    return f"{points(step.mean, is_signed=True)} ({low} to {high})"


def _trend(step: Estimate) -> str:
    if step.lower > 0:
        return "rows still help"
    if step.upper < 0:
        return "more rows made it worse: look at the rows and the recipe"
    return "not shown on these cases whether rows still help"
