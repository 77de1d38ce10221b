"""What this eval could show, said before anything is run. Knows numbers of cases, not the cases.

Scores are taken as 0/1. Two prompts split 28 % of the cases at a score of .75, which is a
correlation of .25 on a case (.254 in the vectors that the gates were validated on).
"""

from __future__ import annotations

import math

import numpy as np

from harness.core.bounds import Array, korn_graubard, t_quantile
from harness.core.coverage import profile_named
from harness.core.looks import ALPHA_FIRST
from harness.core.needs import Z_80
from harness.core.planning import CLUSTERS_FOR_WALL, independent
from harness.core.reach import REACH_LIMIT, is_climbing, reach_chance, trend, window_size
from harness.core.words import about, chance, count, percent, points

CORRELATION = 0.25
# Reproduces the published table of wall powers within its error. With .25 the power at 40 and 60
# cases comes out 10 to 20 points lower (15 points below target: .05 and .23).
WALL_CORRELATION = 0.40
PROMPT_SPREAD = 0.02
GAPS = (0.10, 0.15, 0.20, 0.30)
GAINS = (0.05, 0.10, 0.15)


def discordance(score: float, *, correlation: float = CORRELATION) -> float:
    """Return the share of cases that two prompts of that score split: 2p(1-p)(1-r)."""
    return 2 * score * (1 - score) * (1 - correlation)


def detectable_difference(
    cases: int, *, clusters: int | None = None, score: float = 0.75, alpha: float = 0.05
) -> float:
    """Return the paired gain that would be shown with 80 % power, before any run.

    Cases of one cluster are taken to correlate by .25.
    """
    groups = clusters if clusters is not None else cases
    if groups < 2:
        return 1.0
    factor = t_quantile(1 - alpha, groups) + t_quantile(0.80, groups)
    return min(factor * math.sqrt(discordance(score) / independent(cases, groups)), 1.0)


def cases_for_gain(gain: float, *, score: float = 0.75, alpha: float = 0.05) -> int:
    """Return about how many independent cases show a paired gain with 80 % power.

    n = (z_alpha + z_.80)^2 discordance / gain^2; the same holds for a margin kept with that
    much to spare (margin + expected gain).
    """
    from scipy import special

    z = -float(special.ndtri(alpha)) + Z_80
    return about(z * z * discordance(score) / gain**2)


def match_power(cases: int, *, margin: float, score: float = 0.85, alpha: float = 0.05) -> float:
    """Return P(shown to be not worse by the margin), where both are truly equal."""
    from scipy import special

    error = math.sqrt(discordance(score) / cases)
    return float(special.ndtr(margin / error + special.ndtri(alpha)))


def ship_power(cases: int, *, score: float, target: float, alpha: float = ALPHA_FIRST) -> float:
    """Return P(a confirmation look on `cases` ends in SHIP_PROMPT), the true score given.

    Exact: the smallest count whose lower bound reaches the target, and the binomial tail there.
    """
    from scipy import special

    hits = np.arange(cases + 1, dtype=np.float64)
    p = hits / cases
    errors = np.sqrt(p * (1 - p) / max(cases - 1, 1))
    lower, _ = korn_graubard(p, errors, groups=cases, alpha=alpha)
    enough = lower >= target
    if not enough.any():
        return 0.0
    return float(special.bdtrc(int(np.argmax(enough)) - 1, cases, score))


def wall_power(
    cases: int,
    *,
    gap: float,
    target: float = 0.80,
    tries: int = 14,
    mid: float = 0.05,
    profile: str = "standard",
    correlation: float = WALL_CORRELATION,
    worlds: int = 400,
    seed: int = 0,
) -> float:
    """Return P(WALL) where the best of the tries is truly `gap` below the target.

    Simulated from the means, not the cases: `worlds` ladders of true means (level + N(0, .02),
    with the expected best of K-1 at target - gap) and their correlated case noise, each judged by
    conditions (a) to (d). Independent cases; below 30 no wall is possible. Checked against the
    table of the full simulation in tests/core/test_forecast.py.
    """
    if cases < CLUSTERS_FOR_WALL:
        return 0.0
    rng = np.random.default_rng(seed)
    horizon = profile_named(profile).horizon(tries)
    lift = PROMPT_SPREAD * _expected_largest(tries - 1)
    level = target - gap - lift
    if level <= 0:
        level = PROMPT_SPREAD
    truths = np.clip(level + PROMPT_SPREAD * rng.standard_normal((worlds, tries)), 0.001, 0.999)
    shared = rng.standard_normal((worlds, 1))
    own = rng.standard_normal((worlds, tries))
    noise = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
    errors = np.sqrt(truths * (1 - truths) / cases)
    means = np.round(np.clip(truths + errors * noise, 0, 1) * cases) / cases
    found = [
        _is_wall(
            row, cases, target=target, horizon=horizon, mid=mid, correlation=correlation, seed=seed
        )
        for row in means
    ]
    return float(np.mean(found))


def _is_wall(
    means: Array,
    cases: int,
    *,
    target: float,
    horizon: int,
    mid: float,
    correlation: float,
    seed: int,
) -> bool:
    variances = means * (1 - means) / (cases - 1)
    errors = np.sqrt(variances)
    _, uppers = korn_graubard(means, errors, groups=cases, alpha=0.05)
    if uppers.max() >= target:
        return False
    m = window_size(len(means))
    recent = means[-m:]
    best = int(np.argmax(means))
    gap = target - float(means[best])
    if is_climbing(trend(recent), tries=len(means), gap=gap):
        return False
    differences = 2 * (1 - correlation) * np.median(variances[-m:])
    factor = t_quantile(0.95, cases) + t_quantile(0.80, cases)
    resolution = factor * math.sqrt(max(float(differences), 1 / cases**2))
    if resolution > max(mid, target - float(np.median(recent))):
        return False
    cov = correlation * np.outer(errors[-m:], errors[-m:])
    np.fill_diagonal(cov, variances[-m:])
    chance = reach_chance(recent, cov, target=target, horizon=horizon, draws=200, seed=seed)
    return chance is not None and chance <= REACH_LIMIT


def _expected_largest(n: int) -> float:
    """Return E(max of n standard normals), by numeric integration of 1 - F^n."""
    from scipy import special

    grid = np.linspace(-8, 8, 4001)
    cdf = special.ndtr(grid) ** n
    return float(((grid > 0) - cdf).sum() * (grid[1] - grid[0]))


def forecast_lines(
    cases: int,
    clusters: int,
    *,
    target: float,
    mid: float = 0.05,
    profile: str = "standard",
    goal: str = "beat",
    margin: float | None = None,
    sealed_cases: int | None = None,
    sealed_clusters: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Return what to print before any effort: which gap dev can show, what the gate can see."""
    alone = round(independent(cases, clusters))
    tries = profile_named(profile).tries
    lines = [
        f"dev: {count(cases, 'case')} in {count(clusters, 'cluster')}, target {percent(target)}"
    ]
    if clusters < CLUSTERS_FOR_WALL:
        lines.append(
            f"no wall can be shown: {CLUSTERS_FOR_WALL} clusters are needed, "
            f"{CLUSTERS_FOR_WALL - clusters} more"
        )
    else:
        gaps = [gap for gap in GAPS if gap < target]
        powers = [
            wall_power(
                max(alone, CLUSTERS_FOR_WALL), gap=gap, target=target, tries=tries, mid=mid,
                profile=profile, seed=seed,
            )
            for gap in gaps
        ]  # fmt: skip
        said = [
            f"{chance(power)} at {points(gap)}" for gap, power in zip(gaps, powers, strict=True)
        ]
        lines.append(
            f"chance to show a wall with {tries} tries, by how far prompts stay below the target: "
            + ", ".join(said)
        )
    smallest = detectable_difference(cases, clusters=clusters)
    needs = [f"{points(gain)} {cases_for_gain(gain)}" for gain in GAINS]
    lines.append(
        f"smallest gain seen between two prompts (80 % power): {points(smallest)}; "
        f"independent cases needed to see {', '.join(needs)}"
    )
    if sealed_cases is not None:
        groups = sealed_clusters if sealed_clusters is not None else sealed_cases
        sealed = round(independent(sealed_cases, groups))
        gain = detectable_difference(sealed_cases, clusters=groups, alpha=ALPHA_FIRST)
        lines.append(
            f"test: {count(sealed_cases, 'case')} in {count(groups, 'cluster')}; the first look "
            f"at the gate sees a gain of {points(gain)} (80 % power)"
        )
        passing = [
            f"{chance(ship_power(sealed, score=target + above, target=target))} at {points(above)}"
            for above in GAINS
            if target + above <= 1
        ]
        if passing:
            lines.append(
                "chance that the first look at test confirms a prompt, by how far it truly is "
                f"above the target: {', '.join(passing)}"
            )
        if goal == "match" and margin is not None:
            power = match_power(sealed, margin=margin, alpha=ALPHA_FIRST)
            lines.append(
                f"goal match, margin {points(margin)}: truly equal arms at 85 % are shown equal "
                f"with chance {chance(power)}"
            )
    return lines
