"""The checks of a release, each judged alone. Knows thresholds and bounds; not the other checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.core.bounds import (
    Array,
    Clusters,
    cluster_codes,
    log_ratio_bounds,
    mean_t_bounds,
    paired_error,
    quantile_lower,
    quantile_upper,
)
from harness.core.needs import cases_for_difference
from harness.core.pairs import MISSING_LIMIT, Pair, arms, delta_bounds
from harness.core.planning import CLUSTERS_FOR_ANY
from harness.core.words import amount, count, percent, points, ratio
from harness.errors import UsageError
from harness.records import Check, Condition, Estimate, ReleaseAnswer

CASES_FOR_MUST_HOLD = 20

Values = Sequence[float | None] | Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A score, or a slice of the cases, that may not lose more than `margin` (in score).

    A watch check (`is_must_hold` false, or a slice below 20 cases) can only BLOCK.
    """

    pair: Pair
    margin: float
    kind: Literal["guardrail", "slice"] = "guardrail"
    is_must_hold: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on what the candidate takes, one value a case (seconds or USD; None = unknown).

    `quantile` .95 reads p95; None reads the mean.
    """

    name: str
    values: Values
    limit: float
    quantile: float | None = 0.95
    clusters: Clusters = None
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage:
    """What the candidate must be lower in, as cost or latency: one value a case and arm."""

    name: str
    candidate: Values
    baseline: Values
    clusters: Clusters = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A check with what the whole verdict needs of it."""

    check: Check
    is_must_hold: bool = True
    need_cases: int | None = None


def judge_primary(
    pair: Pair,
    *,
    alpha: float,
    block_alpha: float,
    min_gain: float,
    margin: float | None = None,
    is_look: bool = True,
) -> Judged:
    """Return the check of the primary score: superior, or with `margin` not worse by more.

    `is_look` says that sealed cases were looked at: its words tell at which error.

    Superior: SHIP where the lower bound is above 0, BLOCK where the upper bound is below
    `min_gain` (shown to gain too little to matter).
    """
    if margin is None:
        return _judge_pair(
            pair, kind="primary", threshold=0.0, floor=min_gain, alpha=alpha,
            block_alpha=block_alpha, is_look=is_look,
        )  # fmt: skip
    return _judge_pair(
        pair, kind="primary", threshold=-margin, floor=-margin, alpha=alpha,
        block_alpha=block_alpha, is_look=is_look,
    )  # fmt: skip


def judge_guard(guard: Guard, *, alpha: float, block_alpha: float, is_look: bool = True) -> Judged:
    """Return the non-inferiority check of a guardrail or slice."""
    is_small = guard.kind == "slice" and len(guard.pair.candidate) < CASES_FOR_MUST_HOLD
    return _judge_pair(
        guard.pair,
        kind=guard.kind,
        threshold=-guard.margin,
        floor=-guard.margin,
        alpha=alpha,
        block_alpha=block_alpha,
        is_must_hold=guard.is_must_hold and not is_small,
        is_look=is_look,
    )


def _judge_pair(
    pair: Pair,
    *,
    kind: Literal["primary", "guardrail", "slice"],
    threshold: float,
    floor: float,
    alpha: float,
    block_alpha: float,
    is_look: bool,
    is_must_hold: bool = True,
) -> Judged:
    at = _at(alpha, is_look=is_look)
    shown = delta_bounds(pair, alpha=alpha)
    blocking = delta_bounds(pair, alpha=block_alpha)
    name = f"slice {pair.name}" if kind == "slice" else pair.name
    need: int | None = None
    answer: ReleaseAnswer = "INSUFFICIENT_EVIDENCE"
    if pair.missing > MISSING_LIMIT:
        text = f"{name}: {percent(pair.missing)} of the cases have no answer in one arm: re-run it"
    elif shown.clusters < CLUSTERS_FOR_ANY:
        few = count(shown.clusters, "cluster")
        text = f"{name}: {few}, and below {CLUSTERS_FOR_ANY} nothing can be said: add cases"
    elif blocking.upper < floor:
        answer, text = "BLOCK", _blocked(name, shown, blocking, floor=floor, alpha=block_alpha)
    elif shown.lower > threshold:
        answer, text = "SHIP", _shown(name, shown, threshold=threshold, at=at)
    else:
        need = _need(pair, shown, threshold=threshold, floor=floor, alphas=(alpha, block_alpha))
        text = _open(name, shown, threshold=threshold, need=need, at=at)
    if not is_must_hold:
        is_told = pair.missing <= MISSING_LIMIT and shown.clusters >= CLUSTERS_FOR_ANY
        # one that is shown says by itself what it can lose
        is_news = is_told and answer != "SHIP"
        text += f"; watched only{f': {_excluded(shown)}' if is_news else ''}"
    return Judged(
        check=Check(
            name=name, kind=kind, answer=answer, text=text, delta=shown, threshold=threshold
        ),
        is_must_hold=is_must_hold,
        need_cases=need,
    )


def _excluded(shown: Estimate) -> str:
    if shown.lower >= 0:
        return "a loss is excluded"
    return f"a loss above {points(-shown.lower)} is excluded, a smaller one is not"


def _at(alpha: float, *, is_look: bool) -> str:
    """Tell at which error a bound is drawn: the comparison above it has others."""
    of = "this look's " if is_look else ""
    return f"at {of}{percent(alpha, digits=2)}"


def _span(shown: Estimate, at: str) -> str:
    low, high = (points(bound, is_signed=True).split()[0] for bound in (shown.lower, shown.upper))
    return f"{points(shown.mean, is_signed=True)} ({low} to {high} {at})"


def _shown(name: str, shown: Estimate, *, threshold: float, at: str) -> str:
    if threshold >= 0:
        least = f"at least {points(shown.lower)} {at}"
        return f"{name} better by {points(shown.mean)} ({least})"
    margin = f"(margin {points(-threshold)})"
    if shown.lower >= 0:
        return f"{name} {_span(shown, at)}: a loss is excluded {margin}"
    return f"{name} {_span(shown, at)}: loses at most {points(-shown.lower)} {margin}"


def _blocked(name: str, shown: Estimate, blocking: Estimate, *, floor: float, alpha: float) -> str:
    share = f"at {percent(alpha, digits=2)}"  # the look's alpha over all checks
    if blocking.upper < 0:
        return f"{name} lost {points(-shown.mean)} (at least {points(-blocking.upper)} {share})"
    return (
        f"{name} gains too little to matter: {points(shown.mean, is_signed=True)}, at most "
        f"{points(blocking.upper)} {share} (least gain {points(floor)})"
    )


def _open(name: str, shown: Estimate, *, threshold: float, need: int | None, at: str) -> str:
    wanted = "better" if threshold >= 0 else f"within {points(-threshold)}"
    text = f"{name} {_span(shown, at)}: not shown to be {wanted}"
    if need is not None:
        return f"{text}; about {count(need, 'case')} in all would settle it"
    return f"{text}, and more cases would hardly settle it"


def _need(
    pair: Pair,
    shown: Estimate,
    *,
    threshold: float,
    floor: float,
    alphas: tuple[float, float],
) -> int | None:
    """Return about how many cases show the side on which the mean now lies."""
    table = arms(pair)
    both = ~np.isnan(table).any(axis=1)
    clusters = pair.clusters
    if clusters is not None:
        clusters = [clusters[row] for row in np.flatnonzero(both).tolist()]
    n = int(both.sum())
    error = max(paired_error(table[both, 0] - table[both, 1], clusters), 1 / n)
    up, down = shown.mean - threshold, floor - shown.mean
    needs = [
        cases_for_difference(up, error=error, n=n, alpha=alphas[0]),
        cases_for_difference(down, error=error, n=n, alpha=alphas[1]),
    ]
    known = [need for need in needs if need is not None]
    return min(known) if known else None


def _known(name: str, values: Values) -> tuple[Array, float]:
    """Return values, unknown ones as NaN, and the share of these."""
    found = np.asarray(values, dtype=np.float64)
    if found.size == 0:
        raise UsageError(f"{name}: no values to judge")
    return found, float(np.isnan(found).mean())


def _filled(values: Array, filler: float) -> Array:
    return np.where(np.isnan(values), filler, values)


def judge_budget(budget: Budget, *, alpha: float, block_alpha: float) -> Judged:
    """Return the check of a limit: SHIP where the upper bound keeps it, BLOCK where the lower
    bound breaks it. Too few cases for a quantile's bound is INSUFFICIENT_EVIDENCE.

    What is unknown is against both: it is endless (in a mean, the largest seen) where the limit
    would be kept, and nothing where it would be broken.
    """
    what = "mean" if budget.quantile is None else f"p{100 * budget.quantile:g}"
    name = f"{budget.name} ({what})"
    limit = f"limit {amount(budget.limit, budget.unit, digits=6)}"
    values, unknown = _known(name, budget.values)
    if unknown > MISSING_LIMIT:
        text = f"{name}: unknown for {percent(unknown)} of the cases ({limit})"
        return _fact(name, "INSUFFICIENT_EVIDENCE", text)
    least, of = _filled(values, 0.0), budget.clusters
    if budget.quantile is None:
        upper_bound = mean_t_bounds(_filled(values, float(np.nanmax(values))), of, alpha=alpha)
        lower_bound = mean_t_bounds(least, of, alpha=block_alpha)
        upper = None if upper_bound is None else upper_bound.upper
        lower = None if lower_bound is None else lower_bound.lower
    else:
        upper = quantile_upper(_filled(values, np.inf), of, q=budget.quantile, alpha=alpha)
        lower = quantile_lower(least, of, q=budget.quantile, alpha=block_alpha)
    if lower is not None and lower > budget.limit:
        return _fact(name, "BLOCK", f"{name} at least {_beside(lower, budget)} ({limit})")
    if upper is not None and np.isinf(upper):
        text = f"{name}: unknown for {percent(unknown)} of the cases, too many for an upper bound"
        return _fact(name, "INSUFFICIENT_EVIDENCE", f"{text} ({limit})")
    if upper is None:
        _, groups = cluster_codes(budget.clusters, len(values))
        each = len(values) / groups
        text = f"{name}: {count(len(values), 'case')} "
        text += "" if groups == len(values) else f"from {count(groups, 'source')} "
        text += f"are too few for an upper bound ({limit})"
        need = _cases_for_quantile(budget.quantile, alpha=alpha, each=each)
        if need is not None and need > len(values):
            text += f"; {need} are needed"
            return _fact(name, "INSUFFICIENT_EVIDENCE", text, need=need)
        return _fact(name, "INSUFFICIENT_EVIDENCE", text)
    answer: ReleaseAnswer = "SHIP" if upper <= budget.limit else "INSUFFICIENT_EVIDENCE"
    return _fact(name, answer, f"{name} at most {_beside(upper, budget)} ({limit})")


def _beside(bound: float, budget: Budget) -> str:
    """Return a bound with as many digits as keep it on its side of the limit."""
    for digits in (2, 3, 4):
        shown = float(f"{bound:.{digits}g}")
        if (shown > budget.limit) == (bound > budget.limit):
            return amount(bound, budget.unit, digits=digits)
    return amount(bound, budget.unit, digits=6)


def judge_advantage(advantage: Advantage, *, alpha: float, block_alpha: float) -> Judged:
    """Return the check that the candidate takes less, by the mean log-ratio a case.

    Where a value is 0 (a free arm) there is no ratio, and the mean difference is read. What is
    unknown is against either answer: at the arm's largest or smallest value, whichever is.
    """
    name = advantage.name
    mine, unknown_mine = _known(name, advantage.candidate)
    theirs, unknown_theirs = _known(name, advantage.baseline)
    unknown = max(unknown_mine, unknown_theirs)
    if unknown > MISSING_LIMIT:
        text = f"{name}: unknown for {percent(unknown)} of the cases in one arm"
        return _fact(name, "INSUFFICIENT_EVIDENCE", text)
    if len(mine) != len(theirs):
        raise UsageError(f"{name}: {len(mine)} values against {len(theirs)}: align them first")
    of = advantage.clusters
    worst = _filled(mine, float(np.nanmax(mine))), _filled(theirs, float(np.nanmin(theirs)))
    kindest = _filled(mine, float(np.nanmin(mine))), _filled(theirs, float(np.nanmax(theirs)))
    shown, is_ratio = _lower_by(*worst, of, alpha=alpha)
    blocking, _ = _lower_by(*kindest, of, alpha=block_alpha)
    if shown is None or blocking is None or shown.clusters < CLUSTERS_FOR_ANY:
        text = f"{name}: below {CLUSTERS_FOR_ANY} clusters nothing can be said"
        return _fact(name, "INSUFFICIENT_EVIDENCE", text)
    answer: ReleaseAnswer = "INSUFFICIENT_EVIDENCE"
    if blocking.lower > 0:
        answer = "BLOCK"
    elif shown.upper < 0:
        answer = "SHIP"
    text, need = f"{name} {_change(shown, name=name, is_ratio=is_ratio)}", None
    if answer == "INSUFFICIENT_EVIDENCE":
        text += ": not shown to be lower"
        need = _need_of_mean(shown, n=len(mine), alpha=alpha)
        text += f"; about {count(need, 'case')} in all would settle it" if need is not None else ""
    return _fact(name, answer, text, need=need)


def _lower_by(
    mine: Array, theirs: Array, clusters: Clusters, *, alpha: float
) -> tuple[Estimate | None, bool]:
    """Return how much less is taken a case, and whether as a log-ratio."""
    ratios = log_ratio_bounds(mine, theirs, clusters, alpha=alpha)
    if ratios is not None:
        return ratios, True
    return mean_t_bounds(mine - theirs, clusters, alpha=alpha), False


def _need_of_mean(shown: Estimate, *, n: int, alpha: float) -> int | None:
    """Return about how many cases show a mean on the side of 0 where it now lies."""
    from scipy import special

    t = float(special.stdtrit(max(shown.clusters - 1, 1), 1 - alpha))
    error = (shown.upper - shown.mean) / t
    return cases_for_difference(abs(shown.mean), error=error, n=n, alpha=alpha) if error else None


def _cases_for_quantile(quantile: float | None, *, alpha: float, each: float) -> int | None:
    """Return how many cases the upper bound of a quantile needs to exist, `each` of a source:
    q**sources <= alpha.
    """
    if quantile is None or not 0 < quantile < 1:
        return None
    return math.ceil(each * math.ceil(math.log(alpha) / math.log(quantile)))


def _change(shown: Estimate, *, name: str, is_ratio: bool) -> str:
    bounds = (shown.mean, shown.lower, shown.upper)
    if not is_ratio:
        unit = {"latency": "s", "cost": "$"}.get(name, "")
        mean, low, high = (("+" if v > 0 else "") + amount(v, unit) for v in bounds)
        return f"{mean} a case ({low} to {high})"
    mean, low, high = (ratio(math.exp(v)) for v in bounds)
    return f"{mean} times the baseline's ({low} to {high})"


def _fact(name: str, answer: ReleaseAnswer, text: str, *, need: int | None = None) -> Judged:
    check = Check(name=name, kind="budget", answer=answer, text=text)
    return Judged(check=check, need_cases=need)


def judge_condition(condition: Condition) -> Judged:
    """Return a fact that must hold (parity, positive control): unknown is not held."""
    answers: dict[bool | None, ReleaseAnswer] = {
        True: "SHIP",
        False: "BLOCK",
        None: "INSUFFICIENT_EVIDENCE",
    }
    return Judged(
        check=Check(
            name=condition.name,
            kind="condition",
            answer=answers[condition.holds],
            text=f"{condition.name}: {condition.text}",
        )
    )
