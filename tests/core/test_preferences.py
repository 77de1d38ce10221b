"""Wins, ties and losses: the exact test, the net bound, and how many comparisons it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.core.bounds import paired_bounds
from harness.core.preferences import (
    count_preferences,
    decisive_needed,
    net_preference,
    sign_test,
)
from harness.errors import UsageError


@given(wins=st.integers(0, 400), losses=st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_the_sign_test_is_that_of_scipy(wins: int, losses: int) -> None:
    from scipy.stats import binomtest

    expected = 1.0
    if wins + losses:
        expected = binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_twenty_to_ten_is_the_first_split_of_two_to_one_that_shows_a_preference() -> None:
    shown = [n for n in range(1, 12) if sign_test(2 * n, n) <= 0.05]
    assert shown[0] == 10


def test_ties_and_what_could_not_be_read_are_counted_apart() -> None:
    found = count_preferences([1, 1, 0.5, 0, None, math.nan])
    assert (found.wins, found.ties, found.losses, found.n) == (2, 1, 1, 4)
    assert found.rate == (2 + 0.5) / 4
    assert found.p_value == 0.5
    assert "won 2, tied 1, lost 1: win rate 62.5 %" in found.text
    assert count_preferences([None]).rate is None
    assert count_preferences([None]).text == "no comparison"


def test_net_preference_is_the_paired_bound_over_what_was_read() -> None:
    outcomes = [1, 1, 1, 0.5, 0, None, 1, 1, 0.5, 1]
    clusters = list("aabbccddee")
    found = net_preference(outcomes, clusters, alpha=0.05)
    d = [1, 1, 1, 0, -1, 1, 1, 0, 1]
    assert found == paired_bounds(d, list("aabbcddee"), alpha=0.05)
    with pytest.raises(UsageError, match="no comparison"):
        net_preference([None, None], None)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=60))
def test_swapping_the_sides_mirrors_everything(outcomes: list[float]) -> None:
    one, other = count_preferences(outcomes), count_preferences([1 - x for x in outcomes])
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert one.rate == pytest.approx(1 - (other.rate or 0))
    assert one.p_value == other.p_value
    mine, theirs = (net_preference(x, None) for x in (outcomes, [1 - x for x in outcomes]))
    assert mine.lower == pytest.approx(-theirs.upper)


@pytest.mark.parametrize(
    ("truth", "beyond", "needed"),
    [(1.2, 1, 786), (1.5, 1, 169), (2, 1, 60), (3, 1, 28), (4, 1, 18), (3, 2, 203), (4, 2, 79)],
)
def test_comparisons_needed_are_the_published_ones(
    truth: float, beyond: float, needed: int
) -> None:
    """The study printed 773 for 1.2 to 1: there the power dips once more below .80, at 785."""
    assert decisive_needed(truth, beyond=beyond) == needed


def test_from_the_number_needed_on_the_test_has_its_power() -> None:
    from scipy.stats import binom

    needed = decisive_needed(2)
    assert needed is not None
    n = np.arange(needed - 1, needed + 60)
    least = [next(k for k in range(m + 1) if sign_test(k, m - k) <= 0.05) for m in n.tolist()]
    power = binom.sf(np.array(least) - 1, n, 2 / 3)
    assert power[0] < 0.80 <= power[1:].min()


def test_no_number_of_comparisons_shows_what_is_not_so() -> None:
    assert decisive_needed(2, beyond=2) is None
    assert decisive_needed(1.001) is None
