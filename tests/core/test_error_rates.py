"""Short seeded simulations: the gates err no more often than they say.

The design studies (80 to 720 runs a cell) chose the procedure; these would see it break. Scores
come from a probit model with one shared factor a case, a correlation of about .26 between prompts.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binom

from harness.core.bounds import paired_bounds
from harness.core.pairs import Pair, compare
from harness.core.release import judge_release
from harness.core.wall import TryScores, WallInput, judge_wall

FAMILIES = (
    "zero-shot", "instructions", "few-shot", "dynamic-few-shot", "constrained", "optimised",
    "chain-of-thought",
)  # fmt: skip
TARGET = 0.8
RUNS = 120


def worst_count(rate: float) -> int:
    """The count that a gate at its claimed rate passes once in a thousand suites."""
    return int(binom.ppf(0.999, RUNS, rate))


def draw(rng: np.random.Generator, truths: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """N x K 0/1 scores with these true means; cases of a cluster share a factor too."""
    n, k = len(clusters), len(truths)
    shared = 0.4 * rng.standard_normal((clusters.max() + 1, 1))[clusters]
    shared = shared + np.sqrt(0.42 - 0.16) * rng.standard_normal((n, 1))
    return (shared + np.sqrt(0.58) * rng.standard_normal((n, k)) < ndtri(truths)).astype(float)


def judge(table: np.ndarray, clusters: np.ndarray, *, profile: str = "standard") -> str:
    tries = [
        TryScores(name=f"p{k}", family=FAMILIES[k % 7], scores=table[:, k])
        for k in range(table.shape[1])
    ]
    return judge_wall(
        WallInput(
            task="null", tries=tries, target=TARGET, clusters=clusters, profile=profile,
            reference_scores=np.ones(len(table)), waivers={"labels": "simulated"}, draws=500,
        )
    ).answer  # fmt: skip


@pytest.mark.parametrize("each", [1, 5], ids=["independent", "five a document"])
def test_a_try_that_is_truly_at_the_target_is_hardly_ever_walled_off(each: int) -> None:
    rng = np.random.default_rng(1)
    clusters = np.arange(300) // each
    truths = np.full(14, 0.70)
    truths[5] = TARGET
    walls = sum(judge(draw(rng, truths, clusters), clusters) == "WALL" for _ in range(RUNS))
    assert walls <= worst_count(0.05)


def test_a_next_try_that_reaches_the_target_is_hardly_ever_walled_off() -> None:
    """Stationary tries of which one in five reaches the target: joint rate of the rule of seven."""
    rng = np.random.default_rng(2)
    clusters = np.arange(300)
    errors = 0
    for _ in range(RUNS):
        truths = 0.766 + 0.04 * rng.standard_normal(16)
        if (truths[:14] < TARGET).all() and (truths[14:] >= TARGET).any():
            errors += judge(draw(rng, truths[:14], clusters), clusters) == "WALL"
    assert errors <= worst_count(0.05)


def test_twenty_prompts_exactly_at_the_target_hardly_ever_ship() -> None:
    rng = np.random.default_rng(3)
    clusters = np.arange(300) // 3
    ships = sum(
        judge(draw(rng, np.full(20, TARGET), clusters), clusters) == "SHIP_PROMPT"
        for _ in range(RUNS)
    )
    assert ships <= worst_count(0.05)


def test_a_plateau_fifteen_points_below_is_nearly_always_a_wall() -> None:
    """The errors above must not be bought with a gate that never says anything."""
    rng = np.random.default_rng(4)
    clusters = np.arange(300)
    walls = sum(
        judge(draw(rng, 0.62 + 0.02 * rng.standard_normal(14), clusters), clusters) == "WALL"
        for _ in range(40)
    )
    assert walls >= 32


@pytest.mark.parametrize("each", [1, 10], ids=["independent", "ten a document"])
def test_equal_candidates_hardly_ever_ship(each: int) -> None:
    rng = np.random.default_rng(5)
    clusters = np.arange(300) // each
    ships = 0
    for _ in range(RUNS):
        table = draw(rng, np.full(2, 0.75), clusters)
        pair = Pair(name="s", candidate=table[:, 0], baseline=table[:, 1], clusters=clusters)
        compared = compare(pair, task="null", split="test", baseline="a", candidate="b")
        ships += judge_release(compared, primary=pair).answer == "SHIP"
    assert ships <= worst_count(0.05)


def test_a_gain_of_ten_points_mostly_ships() -> None:
    rng = np.random.default_rng(6)
    clusters = np.arange(400)
    ships = 0
    for _ in range(40):
        table = draw(rng, np.array([0.85, 0.75]), clusters)
        pair = Pair(name="s", candidate=table[:, 0], baseline=table[:, 1])
        compared = compare(pair, task="null", split="test", baseline="a", candidate="b")
        ships += judge_release(compared, primary=pair).answer == "SHIP"
    assert ships >= 34


def test_rare_losses_at_the_margin_do_not_pass_for_harmless() -> None:
    """Where a plain t test passes .17 of them: 3 % lost in truth, margin 3 %, 100 cases."""
    rng = np.random.default_rng(7)
    passed = sum(
        paired_bounds(-(rng.random(100) < 0.03).astype(float), None).lower > -0.03
        for _ in range(RUNS)
    )
    assert passed <= worst_count(0.05)
