"""What a wall could be shown on, told before anything is asked. Knows numbers of cases, no scores.

Needs no numpy, so that every eval run can begin with it; `forecast` has the simulated chances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from harness.core.words import about, count, percent, points

CLUSTERS_FOR_WALL = 30
CLUSTERS_FOR_ANY = 10
"""Below so many clusters no bound holds what it promises, and nothing is said."""
LARGEST_SHARE = 0.20
POWER_FACTOR = 10.5
"""Cases for a wall: this x p(1-p)/gap^2, at 80 % power; held to `forecast.wall_power` by a test."""
CLUSTER_CORRELATION = 0.25
FIRST_LOOK = 0.04
DEV_ALPHA = 0.05
EXPECTED_GAP = 0.10
GAPS = (0.05, 0.10, 0.15)
LEAST_GAP = 0.02
MEANWHILE = (
    "read the misses of a few prompts: what they lack (knowledge, format, a rule) tells what to do",
    "audit the labels: a wrong one looks like a miss of every prompt (--audit)",
    "collect cases from new sources: ten questions about one document tell little more than two",
)

PlanAnswer = Literal["ENOUGH", "INSUFFICIENT_EVIDENCE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What these cases can show. `gap` is how far below the target prompts are expected to stay.

    `independent` counts cases once what clusters share is taken off. `shown_gap` is the smallest
    gap at which a wall is shown with 80 % power, None where none is. `more` lists (gap, cases to
    add). `sealed_needed` is how many sealed clusters let a perfect prompt be confirmed. `verdict`
    is the answer of a wall verdict that holds for these cases, empty where none does, and
    `measured_need` how many cases in all its scores ask for.
    """

    cases: int
    clusters: int
    independent: float
    target: float
    gap: float
    answer: PlanAnswer
    can_wall: bool
    can_ship: bool
    shown_gap: float | None
    more: tuple[tuple[float, int], ...]
    more_at_gap: int
    sealed_clusters: int
    sealed_needed: int
    largest_share: float = 0.0
    verdict: str = ""
    measured_need: int | None = None


def independent(cases: int, clusters: int) -> float:
    """Return how many independent cases tell as much: n / (1 + (m - 1) .25), m cases a cluster.

    Source: Kish (1965), Survey Sampling, section 5.4 (the design effect).
    """
    return cases / (1 + (cases / clusters - 1) * CLUSTER_CORRELATION) if clusters else 0.0


def cases_for_wall(gap: float, *, target: float) -> int:
    """Return about how many independent cases show a wall that far below the target.

    80 % power at 14 tries; never fewer than the clusters that a wall needs.
    """
    score = target - gap
    return max(CLUSTERS_FOR_WALL, about(POWER_FACTOR * score * (1 - score) / gap**2))


def plan_wall(
    cases: int,
    clusters: int,
    *,
    target: float,
    gap: float = EXPECTED_GAP,
    sealed_clusters: int = 0,
    largest_share: float = 0.0,
) -> Plan:
    """Return what `cases` in `clusters` can show where prompts stay `gap` below the target."""
    alone = independent(cases, clusters)
    can_wall = clusters >= CLUSTERS_FOR_WALL and largest_share <= LARGEST_SHARE
    gap = min(gap, target - LEAST_GAP) if target > 2 * LEAST_GAP else target / 2
    steps = [hundredth / 100 for hundredth in range(round(100 * LEAST_GAP), round(100 * target))]
    shown = next((g for g in steps if can_wall and cases_for_wall(g, target=target) <= alone), None)
    best_case = max(
        perfect_bound(clusters, alpha=DEV_ALPHA), perfect_bound(sealed_clusters, alpha=FIRST_LOOK)
    )
    size = cases / clusters if clusters else 1.0
    enough = can_wall and shown is not None and shown <= gap + 1e-9
    return Plan(
        cases=cases,
        clusters=clusters,
        independent=alone,
        target=target,
        gap=gap,
        answer="ENOUGH" if enough else "INSUFFICIENT_EVIDENCE",
        can_wall=can_wall,
        can_ship=best_case >= target,
        shown_gap=shown,
        more=tuple((g, _to_add(cases, size, g, target)) for g in GAPS if g < target),
        more_at_gap=_to_add(cases, size, gap, target),
        sealed_clusters=sealed_clusters,
        sealed_needed=sealed_needed(target),
        largest_share=largest_share,
    )


def _to_add(cases: int, size: float, gap: float, target: float) -> int:
    inflation = 1 + (size - 1) * CLUSTER_CORRELATION
    need = cases_for_wall(gap, target=target) * inflation
    short = max(need, CLUSTERS_FOR_WALL * size) - cases
    return about(short) if short > 0 else 0


def perfect_bound(clusters: int, *, alpha: float) -> float:
    """Return the most that the lower bound of a prompt can be that solves every case: alpha^(1/G).
    It is 0 where so few clusters tell nothing.
    """
    return alpha ** (1 / clusters) if clusters >= CLUSTERS_FOR_ANY else 0.0


def sealed_needed(target: float, *, alpha: float = FIRST_LOOK) -> int:
    """Return from how many sealed clusters a look at `alpha` can confirm a perfect prompt; 0 where
    none can, at a target of 1.
    """
    if target >= 1:
        return 0
    return max(CLUSTERS_FOR_ANY, math.ceil(math.log(alpha) / math.log(target)))


# ---------------------------------------------------------------- in words


def reason(plan: Plan) -> str:
    """Return in a sentence or two whether a verdict can come of these cases."""
    have = f"{count(plan.cases, 'case')} in {count(plan.clusters, 'cluster')}"
    target = percent(plan.target)
    if not plan.can_wall and not plan.can_ship:
        return (
            f"No number of tries can give a verdict on {have}: {_why_no_wall(plan)}, and even a "
            f"perfect prompt could not be shown to reach {target}. {needed(plan)}"
        )
    if not plan.can_wall:
        return f"No wall can be shown on {have}: {_why_no_wall(plan)}. {needed(plan)}"
    if plan.shown_gap is None:
        return f"{have} can show no wall below {target}, however far below. {needed(plan)}"
    shown = (
        f"{have} can show a wall where prompts stay {points(plan.shown_gap)} or more below {target}"
    )
    if plan.answer == "ENOUGH":
        return f"{shown} (80 % power)."
    return f"{shown} (80 % power), not at {points(plan.gap)}. {needed(plan)}"


def _why_no_wall(plan: Plan) -> str:
    if plan.clusters < CLUSTERS_FOR_WALL:
        return f"a wall needs {CLUSTERS_FOR_WALL} clusters"
    return (
        f"one cluster holds {percent(plan.largest_share, digits=0)} of the cases, "
        f"{percent(LARGEST_SHARE, digits=0)} at most are allowed"
    )


def needed(plan: Plan) -> str:
    """Return how many cases to add: as the scores of the tries ask, else for the expected gap."""
    if plan.measured_need is not None:
        more = max(plan.measured_need - plan.cases, 1)
        return (
            f"By the scores of the tries about {more} more would settle it (about "
            f"{plan.measured_need} in all): so the last wall verdict, {plan.verdict}."
        )
    if plan.verdict:
        return f"The last wall verdict, {plan.verdict}, asks for other things than cases."
    if not plan.more_at_gap:
        return "Add cases from other sources: their number would do."
    total = about(plan.cases + plan.more_at_gap)
    return (
        f"A gap of {points(plan.gap)} needs about {plan.more_at_gap} more "
        f"(about {total} in all, from at least {CLUSTERS_FOR_WALL} sources); tries tell the gap."
    )


def brief(plan: Plan, *, task: str) -> str:
    """Return what a run begins with, for two lines of a terminal. It names no verdict: how far
    below the target prompts stay is not known yet, and a run measures them, however few the cases.
    """
    if plan.answer == "ENOUGH":
        return f"forecast: {reason(plan)}"
    have = f"{count(plan.cases, 'case')} in {count(plan.clusters, 'cluster')}"
    more = f"harness wall {task} --plan"
    if plan.verdict:
        return f"forecast: {have}. {needed(plan)} More: {more}"
    total = about(plan.cases + plan.more_at_gap)
    if plan.shown_gap is not None:
        shown = f"{points(plan.shown_gap)} or more below {percent(plan.target)}"
        return (
            f"forecast: {have} can show a wall where prompts stay {shown} (80 % power); for "
            f"{points(plan.gap)} it takes about {total}. More: {more}"
        )
    what = "wall" if plan.can_ship else "verdict"
    enough = f"that takes about {total}, from at least {CLUSTERS_FOR_WALL} sources"
    is_uneven = plan.clusters >= CLUSTERS_FOR_WALL and not plan.can_wall  # more of it is no help
    why = enough if plan.more_at_gap and not is_uneven else _why_no_wall(plan)
    return (
        f"forecast: no {what} can come of {have} yet: {why}. "
        f"Scores are measured all the same. More: {more}"
    )


def needs_line(plan: Plan) -> str:
    """Return how many cases to add for each gap."""
    parts = [f"{points(gap)}: {more or 'none'}" for gap, more in plan.more]
    return f"cases to add, to show a wall that far below {percent(plan.target)}: {', '.join(parts)}"


def ship_line(plan: Plan) -> str:
    """Return whether a good prompt could be shown good on these cases."""
    why_not = no_look(plan.sealed_clusters, target=plan.target, alpha=FIRST_LOOK)
    if not why_not:
        return (
            f"SHIP_PROMPT is possible: a look at {count(plan.sealed_clusters, 'sealed cluster')} "
            "can confirm a prompt (--confirm)"
        )
    if plan.can_ship:
        return f"SHIP_PROMPT is possible on dev, unconfirmed; {why_not}"
    return f"SHIP_PROMPT is not possible: {why_not}"


def no_look(sealed_clusters: int, *, target: float, alpha: float) -> str:
    """Return why a look at `alpha` could confirm no prompt, however good; empty where one could."""
    if perfect_bound(sealed_clusters, alpha=alpha) >= target:
        return ""
    if target >= 1:
        return "a target of 100 % can never be shown"
    return (
        f"test has {count(sealed_clusters, 'cluster')}, {sealed_needed(target, alpha=alpha)} are "
        f"needed before even a perfect prompt is confirmed at {percent(target)}"
    )


def meanwhile(plan: Plan) -> list[str]:
    """Return what is useful before more cases are there."""
    advice = list(MEANWHILE)
    if not plan.can_ship:
        advice.append("try two or three prompts, to learn how far away the target is; not fourteen")
    return [] if plan.answer == "ENOUGH" else advice
