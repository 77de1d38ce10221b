"""One mean in plain Python gives what numpy and scipy give, and imports neither."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from scipy import special

from harness.core.bounds import mean_bounds
from harness.core.means import beta_quantile, beta_share, mean_estimate, t_quantile
from harness.errors import UsageError

EDGES = [0.0, 1.0, 5e-324, 1e-300, 2**-53, 1e-9, 1 - 1e-9, 1 - 2**-53]
SCORES = st.one_of(st.sampled_from(EDGES), st.floats(0, 1))
CASES = st.lists(st.tuples(SCORES, st.sampled_from(["", "a", "b", "c", "d", "e"])), min_size=1)


@settings(max_examples=300, deadline=None)
@given(CASES, st.sampled_from([0.01, 0.04, 0.05, 0.2]))
@example([(0.0, ""), (1e-300, "")], 0.05)  # a side of which rounding leaves nothing
@example([(0.8513480104567042, "c"), (0.8513621483577629, ""), (0.8513621483577629, "c")], 0.2)
@example(
    [(0.8513480104567042, "c"), (0.8513621483577629, ""), *[(0.8513621483577629, "c")] * 2], 0.2
)  # worth 5e9 cases
def test_it_is_the_bound_that_the_gates_use(cases: list[tuple[float, str]], alpha: float) -> None:
    values, clusters = zip(*cases, strict=True)
    mine = mean_estimate(values, clusters, alpha=alpha)
    theirs = mean_bounds(values, clusters, alpha=alpha)
    assert (mine.n, mine.clusters, mine.alpha) == (theirs.n, theirs.clusters, theirs.alpha)
    numbers = [mine.mean, mine.lower, mine.upper]
    assert numbers == pytest.approx([theirs.mean, theirs.lower, theirs.upper], abs=1e-10)


@pytest.mark.parametrize("n", [2, 30, 1000, 20_000])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.5, 0.97, 1.0])
def test_small_and_large_runs_agree_to_ten_digits(n: int, share: float) -> None:
    values = [float(i < share * n) for i in range(n)]
    mine, theirs = mean_estimate(values, [""] * n), mean_bounds(values, [""] * n)
    assert mine.lower == pytest.approx(theirs.lower, abs=1e-10)
    assert mine.upper == pytest.approx(theirs.upper, abs=1e-10)


@pytest.mark.parametrize("probability", [0.9, 0.95, 0.99, 0.9999])
@pytest.mark.parametrize("freedom", [1, 2, 7, 29, 1000, 1e5])
def test_quantiles_of_t_are_those_of_scipy(probability: float, freedom: float) -> None:
    expected = special.stdtrit(freedom, probability)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8)


def test_quantiles_of_beta_are_those_of_scipy_and_give_back_their_probability() -> None:
    rng = np.random.default_rng(23_112_026)
    for _ in range(400):
        a, b = (float(10 ** rng.uniform(-0.3, 4)) for _ in range(2))
        probability = float(rng.uniform(0.001, 0.999))
        x = beta_quantile(probability, a, b)
        assert x == pytest.approx(special.betaincinv(a, b, probability), rel=1e-8), (a, b)
        assert beta_share(x, a, b) == pytest.approx(probability, rel=1e-8), (a, b)


def test_the_ends_of_the_distribution_are_0_and_1() -> None:
    assert [beta_share(x, 2, 3) for x in (-1, 0, 1, 2)] == [0, 0, 1, 1]


@pytest.mark.parametrize("wrong", [[], [0.5, 1.2], [float("nan")], [float("inf")]])
def test_what_is_no_score_is_refused(wrong: list[float]) -> None:
    with pytest.raises(UsageError, match=r"mean needs at least one|not a score"):
        mean_estimate(wrong, [""] * len(wrong))


def test_the_end_of_a_run_imports_neither_numpy_nor_scipy_nor_sqlite_utils() -> None:
    names = "harness.surface.tables, harness.surface.eval_recording, harness.store.store"
    script = f"import sys, {names}\nfrom harness.core.means import mean_estimate\n"
    script += "mean_estimate([0.0, 1.0, 1.0], ['', '', ''])\n"
    script += "print({'numpy', 'scipy', 'sqlite_utils'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
