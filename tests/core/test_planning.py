"""What is told before a run: held to the simulated forecast and to the bounds of the gates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from harness.core.bounds import korn_graubard
from harness.core.forecast import wall_power
from harness.core.planning import FIRST_LOOK, cases_for_wall, needs_line, plan_wall, reason


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
