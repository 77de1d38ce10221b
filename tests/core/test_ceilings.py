"""The oracle of prompts lies between its two estimates, which close in with repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import ndtr, ndtri

from harness.core.ceilings import oracle_ceiling


def chances(rng: np.random.Generator, n: int, tries: int) -> np.ndarray:
    """True pass chances p_ik: prompts share most of what makes a case hard."""
    hard = np.sqrt(0.42) * rng.standard_normal((n, 1))
    own = np.sqrt(0.20) * rng.standard_normal((n, tries))
    return ndtr((ndtri(0.70) - hard - own) / np.sqrt(0.38))


def test_the_truth_lies_between_and_repeats_close_in() -> None:
    rng = np.random.default_rng(3)
    p = chances(rng, 2000, 12)
    truth = float(p.max(axis=1).mean())
    widths = []
    for repeats in (2, 4, 8):
        found = oracle_ceiling(rng.random((2000, 12, repeats)) < p[:, :, None])
        assert found.at_least is not None
        assert found.at_least < truth < found.at_most
        assert found.repeats == repeats
        widths.append(found.at_most - found.at_least)
    assert widths == sorted(widths, reverse=True)


def test_one_repeat_tells_only_at_most() -> None:
    found = oracle_ceiling([[1, 0], [0, 0], [0, 1]])
    assert (found.at_most, found.at_least) == (pytest.approx(2 / 3), None)


def test_luck_is_not_taken_for_skill() -> None:
    """Tries that are all the same coin have a ceiling of one half, whatever the best of 12 says."""
    found = oracle_ceiling(np.random.default_rng(4).random((3000, 12, 4)) < 0.5)
    assert found.at_most > 0.85
    assert found.at_least == pytest.approx(0.5, abs=0.02)


def test_tries_without_luck_have_their_ceiling_exactly() -> None:
    p = (np.random.default_rng(5).random((50, 4, 1)) < 0.4).repeat(3, axis=2)
    found = oracle_ceiling(p)
    assert found.at_most == found.at_least == pytest.approx(p[:, :, 0].any(axis=1).mean())


@given(npst.arrays(np.float64, (6, 3, 4), elements=st.sampled_from([0.0, 0.5, 1.0, np.nan])))
def test_missing_scores_widen_and_never_cross(table: np.ndarray) -> None:
    found = oracle_ceiling(table)
    assert found.at_least is not None
    assert 0 <= found.at_least <= found.at_most <= 1
    filled = oracle_ceiling(np.nan_to_num(table, nan=0.5))
    assert filled.at_most <= found.at_most
