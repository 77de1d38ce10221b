from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from harness.core.bounds import paired_bounds
from harness.core.pairs import Pair, align, arms, compare, delta_bounds, slice_pair
from harness.errors import Refused, UsageError

CASES = [f"q{i}" for i in range(40)]


def test_arms_are_aligned_on_what_both_have_in_the_baselines_order() -> None:
    baseline = dict.fromkeys(CASES, 0.0)
    candidate = dict.fromkeys(reversed(CASES[1:]), 1.0) | {"new": 1.0}
    found = align("s", candidate, baseline=baseline, clusters={c: c[:2] for c in CASES})
    assert list(found.case_ids) == CASES[1:]
    assert list(found.candidate) == [1.0] * 39
    assert found.clusters is not None
    assert found.clusters[0] == "q1"


def test_less_than_95_percent_overlap_is_refused() -> None:
    baseline = dict.fromkeys(CASES, 0.0)
    align("s", dict.fromkeys(CASES[2:], 1.0), baseline=baseline)
    with pytest.raises(Refused, match="share 37 of 40"):
        align("s", dict.fromkeys(CASES[3:], 1.0), baseline=baseline)
    with pytest.raises(UsageError, match="neither arm"):
        align("s", {}, baseline={})


def test_the_delta_without_missing_is_the_paired_bound() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 2, 50).astype(float) for _ in range(2))
    assert delta_bounds(Pair(name="s", candidate=a, baseline=b)) == paired_bounds(a - b, None)


@given(
    holes=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 1)), max_size=6),
    fill=st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6),
)
def test_the_delta_survives_whatever_the_missing_were(
    holes: list[tuple[int, int]], fill: list[float]
) -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2, (30, 2)).astype(float)
    seen = truth.copy()
    for (row, arm), value in zip(holes, fill, strict=False):
        seen[row, arm] = np.nan
        truth[row, arm] = value
    found = delta_bounds(Pair(name="s", candidate=seen[:, 0], baseline=seen[:, 1]))
    whole = paired_bounds(truth[:, 0] - truth[:, 1], None)
    worst = np.where(np.isnan(seen), [0.0, 1.0], seen)
    assert found.lower == paired_bounds(worst[:, 0] - worst[:, 1], None).lower
    # the point at the worst fill never lies above the point at the true fill
    assert (worst[:, 0] - worst[:, 1]).mean() <= whole.mean + 1e-12


def test_a_comparison_counts_and_names_the_cases() -> None:
    pair = Pair(
        name="s", case_ids=("a", "b", "c", "d", "e"), candidate=[1, 0, 1, 0.5, None],
        baseline=[0, 1, 1, 1, 1],
    )  # fmt: skip
    found = compare(pair, task="t", split="test", baseline="few-shot", candidate="tuned")
    assert (found.wins, found.losses, found.ties, found.missing) == (1, 2, 1, 1)
    assert found.newly_passed == ("a",)
    assert found.newly_missed == ("b", "d")
    assert found.delta.n == 4
    assert found.candidate_estimate.mean == pytest.approx(2.5 / 4)


def test_a_slice_keeps_its_clusters() -> None:
    pair = Pair(
        name="s", case_ids=("a", "b", "c"), candidate=[1, 0, 1], baseline=[0, 0, 1],
        clusters=["x", "y", "x"],
    )  # fmt: skip
    found = slice_pair(pair, {"c", "a"}, name="slow")
    assert found.name == "slow"
    assert list(found.case_ids) == ["a", "c"]
    assert list(found.clusters or []) == ["x", "x"]
    with pytest.raises(UsageError, match="case ids"):
        slice_pair(Pair(name="s", candidate=[1.0], baseline=[1.0]), {"a"}, name="slow")


def test_unaligned_empty_or_odd_scores_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="align them"):
        arms(Pair(name="s", candidate=[1.0], baseline=[1.0, 0.0]))
    with pytest.raises(UsageError, match="no case"):
        arms(Pair(name="s", candidate=[], baseline=[]))
    with pytest.raises(UsageError, match="of the baseline"):
        arms(Pair(name="s", candidate=[1.0], baseline=[3.0]))
