"""What is told before a run: held to the simulated forecast and to the bounds of the gates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from harness.core.bounds import korn_graubard
from harness.core.forecast import wall_power
from harness.core.planning import (
    FIRST_LOOK,
    Plan,
    brief,
    cases_for_wall,
    needs_line,
    plan_wall,
    reason,
)


@pytest.mark.parametrize("target", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("gap", [0.10, 0.15, 0.20])
def test_the_cases_for_a_wall_give_about_eighty_per_cent(target: float, gap: float) -> None:
    """The rule needs no simulation; Monte-Carlo error of 400 worlds is .04 (two errors)."""
    assert 0.70 <= wall_power(cases_for_wall(gap, target=target), gap=gap, target=target) <= 0.92


def test_that_nothing_can_ship_is_said_only_where_a_perfect_prompt_would_fail() -> None:
    for sealed in (10, 14, 15, 30, 59, 60):
        plan = plan_wall(5, 5, target=0.8, sealed_clusters=sealed)
        perfect, _ = korn_graubard(1.0, 0.0, groups=sealed, alpha=FIRST_LOOK)
        if not plan.can_ship:
            assert float(perfect[0]) < 0.8
        assert plan.can_ship is (sealed >= plan.sealed_needed)


@settings(max_examples=60, deadline=None)
@given(
    clusters=st.integers(1, 400),
    size=st.integers(1, 20),
    target=st.floats(0.05, 1.0),
    gap=st.floats(0.01, 0.9),
)
def test_adding_what_is_asked_for_is_enough(
    clusters: int, size: int, target: float, gap: float
) -> None:
    plan = plan_wall(clusters * size, clusters, target=target, gap=gap)
    assert reason(plan)
    assert needs_line(plan)
    assert plan.gap < target
    more = -(-plan.more_at_gap // size)
    grown = plan_wall((clusters + more) * size, clusters + more, target=target, gap=gap)
    # found in whole points, so that the gap may be missed by one
    assert grown.can_wall
    assert grown.shown_gap is None or grown.shown_gap <= plan.gap + 0.0101


def test_clusters_count_and_one_that_holds_a_fifth_stops_a_wall() -> None:
    spread, packed = plan_wall(300, 300, target=0.8), plan_wall(300, 60, target=0.8)
    assert spread.answer == "ENOUGH"
    assert packed.answer == "INSUFFICIENT_EVIDENCE"
    assert packed.more_at_gap > 0
    heavy = plan_wall(300, 60, target=0.8, largest_share=0.5)
    assert not heavy.can_wall
    assert "one cluster holds 50 % of the cases" in reason(heavy)


GAP = plan_wall(60, 40, target=0.9, sealed_clusters=60)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            plan_wall(300, 300, target=0.9),
            (
                "300 cases in 300 clusters can show a wall where prompts stay 8 points or more "
                "below 90 % (80 % power)."
            ),
        ),
        (
            GAP,
            (
                "60 cases in 40 clusters can show a wall where prompts stay 21 points or more "
                "below 90 % (80 % power); for 10 points it takes about 200. "
                "More: harness wall sums --plan"
            ),
        ),
        (
            replace(GAP, verdict="KEEP_PROMPTING", measured_need=90),
            (
                "60 cases in 40 clusters. By the scores of the tries about 30 more would settle it "
                "(about 90 in all): so the last wall verdict, KEEP_PROMPTING. "
                "More: harness wall sums --plan"
            ),
        ),
        (
            replace(GAP, verdict="WALL"),
            (
                "60 cases in 40 clusters. The last wall verdict, WALL, asks for other things than "
                "cases. More: harness wall sums --plan"
            ),
        ),
        (
            plan_wall(12, 12, target=0.9),
            (
                "no verdict can come of 12 cases in 12 clusters yet: that takes about 180, from at "
                "least 30 sources. Scores are measured all the same. More: harness wall sums --plan"
            ),
        ),
        (
            plan_wall(500, 40, target=0.9, sealed_clusters=60, largest_share=0.7),
            (
                "no wall can come of 500 cases in 40 clusters yet: one cluster holds 70 % of the "
                "cases, 20 % at most are allowed. Scores are measured all the same. "
                "More: harness wall sums --plan"
            ),
        ),
    ],
)
def test_what_a_run_begins_with_says_what_is_there_and_what_it_takes(plan: Plan, said: str) -> None:
    assert brief(plan, task="sums") == f"forecast: {said}"
