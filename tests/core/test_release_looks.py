"""Who gates after every try is not fooled: ten looks at the same cases err as seldom as one."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from harness.core.pairs import Pair, compare
from harness.core.release import judge_release

RUNS, PEEKS, CASES = 120, 10, 150


def ships(baseline: np.ndarray, candidate: np.ndarray, *, look: int | None) -> bool:
    pair = Pair(name="right", candidate=candidate, baseline=baseline)
    compared = compare(pair, task="t", split="test", baseline="b", candidate="c")
    return judge_release(compared, primary=pair, look=look).answer == "SHIP"


def families_that_ship(*, is_counted: bool) -> int:
    """Of RUNS users with ten candidates, none better than the baseline, how many ship one."""
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(RUNS):
        ease = rng.normal(0.67, 0.8, CASES)  # what a case asks of every candidate alike
        arms = (ease + rng.normal(size=(PEEKS + 1, CASES)) > 0).astype(float)
        found += any(
            ships(arms[0], arms[k], look=k if is_counted else None) for k in range(1, PEEKS + 1)
        )
    return found


def test_ten_looks_at_candidates_that_are_no_better_hardly_ever_ship() -> None:
    allowed = int(binom.ppf(0.999, RUNS, 0.05))
    assert families_that_ship(is_counted=True) <= allowed
    assert families_that_ship(is_counted=False) > allowed  # so the test can see a broken rule
