"""What is promised before a run, against the tables of the full simulation."""

from __future__ import annotations

import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from harness.core.forecast import (
    cases_for_gain,
    detectable_difference,
    discordance,
    forecast_lines,
    independent,
    match_power,
    ship_power,
    wall_power,
)
from harness.core.words import chance

# (cases, gap below target) -> P(WALL) at 14 tries; 80 to 720 simulated runs a cell
TABLE = {
    (40, 0.10): 0.03, (40, 0.15): 0.15, (40, 0.20): 0.43, (40, 0.30): 0.91,
    (60, 0.10): 0.10, (60, 0.15): 0.41, (60, 0.20): 0.76, (60, 0.30): 0.99,
    (150, 0.10): 0.54, (150, 0.15): 0.94, (150, 0.20): 0.99, (150, 0.30): 1.00,
}  # fmt: skip


@pytest.mark.parametrize(("cell", "power"), TABLE.items(), ids=str)
def test_wall_power_is_that_of_the_table(cell: tuple[int, float], power: float) -> None:
    """Two Monte-Carlo errors of a cell with 80 runs are .11 at its widest."""
    assert wall_power(cell[0], gap=cell[1]) == pytest.approx(power, abs=0.11)


@pytest.mark.parametrize(("gap", "power"), [(0.05, 0.39), (0.10, 0.93), (0.15, 1.0)])
def test_quick_wall_power_is_that_of_the_table(gap: float, power: float) -> None:
    found = wall_power(300, gap=gap, tries=7, profile="quick")
    assert found == pytest.approx(power, abs=0.11)


def test_below_thirty_clusters_there_is_no_wall() -> None:
    assert wall_power(29, gap=0.3) == 0


@pytest.mark.parametrize(("cases", "power"), [(150, 0.37), (300, 0.65), (600, 0.88), (1000, 0.98)])
def test_match_power_is_that_of_the_table(cases: int, power: float) -> None:
    assert match_power(cases, margin=0.05) == pytest.approx(power, abs=0.04)


def test_the_discordance_of_two_prompts_is_the_one_that_was_seen() -> None:
    assert discordance(0.75) == pytest.approx(0.28, abs=0.005)


def test_five_points_need_about_seven_hundred_cases() -> None:
    assert cases_for_gain(0.05) == pytest.approx(700, rel=0.02)
    assert cases_for_gain(0.10) == pytest.approx(175, rel=0.05)
    assert cases_for_gain(0.15) == pytest.approx(78, rel=0.05)


@pytest.mark.parametrize("gain", [0.05, 0.10])
def test_need_and_detectable_difference_agree(gain: float) -> None:
    assert detectable_difference(cases_for_gain(gain)) == pytest.approx(gain, rel=0.02)


def test_cases_that_share_a_source_count_for_less() -> None:
    assert independent(300, 300) == 300
    assert independent(300, 60) == pytest.approx(150)
    assert detectable_difference(300, clusters=60) > detectable_difference(300)
    assert detectable_difference(5, clusters=1) == 1.0


def test_the_chance_of_a_confirmation_is_exact() -> None:
    def lower(hits: int) -> float:
        return proportion_confint(hits, 300, alpha=0.08, method="beta")[0]

    least = next(hits for hits in range(301) if lower(hits) >= 0.8)
    exact = stats.binom.sf(least - 1, 300, 0.86)
    assert ship_power(300, score=0.86, target=0.8) == pytest.approx(exact, abs=0.03)
    assert ship_power(8, score=1.0, target=0.8) == 0.0


def test_the_lines_say_what_is_out_of_reach() -> None:
    text = "\n".join(forecast_lines(20, 20, target=0.6))
    assert "no wall can be shown: 30 clusters are needed, 10 more" in text
    text = "\n".join(
        forecast_lines(
            60, 60, target=0.85, profile="quick", goal="match", margin=0.05, sealed_cases=60
        )
    )
    assert "with 7 tries" in text
    assert "goal match, margin 5 points" in text
    assert "5 points 700" in text
    chances = [ship_power(60, score=0.85 + above, target=0.85) for above in (0.05, 0.1, 0.15)]
    assert (
        "chance that the first look at test confirms a prompt, by how far it truly is above the "
        f"target: {chance(chances[0])} at 5 points, {chance(chances[1])} at 10 points, "
        f"{chance(chances[2])} at 15 points"
    ) in text
    assert chances[0] < 0.5 < chances[2]
    assert "confirms a prompt" not in "\n".join(
        forecast_lines(60, 60, target=0.99, sealed_cases=60)
    )
