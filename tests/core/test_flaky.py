"""Flaky cases are counted and named, and what answered once is not called steady."""

from __future__ import annotations

import pytest
from statsmodels.stats.proportion import proportion_confint

from harness.core.flaky import flakiness, wilson_bounds
from harness.records import Fault
from tests.core.test_repeats import run_of


def test_the_flakiest_comes_first_and_faults_of_the_system_are_misses() -> None:
    overflow = Fault(origin="backend", message="context overflow")
    lost = Fault(origin="backend", message="refused", is_missing=True)
    run = run_of(
        {
            "steady": [1.0, 1.0, 1.0, 1.0],
            "rarely": [1.0, 0.0, 0.0, 0.0],
            "half": [1.0, 0.0, overflow, 1.0],
            "once": [1.0, lost, lost, lost],  # one answer tells nothing
            "never": [0.0, 0.5, 0.5, 0.0],  # partial scores are no passes
            "unscored": [None, None, None, None],
        }
    )
    found = flakiness(run, "right")
    assert found is not None
    assert found.cases == 4
    assert [(f.case_id, f.passed, f.of) for f in found.flaky] == [("half", 2, 4), ("rarely", 1, 4)]
    assert (found.lower, found.upper) == wilson_bounds(2, 4)


def test_one_repeat_shows_no_flakiness() -> None:
    assert flakiness(run_of({"a": [1.0], "b": [0.0]}), "right") is None


@pytest.mark.parametrize(("passed", "of"), [(0, 5), (3, 8), (8, 8), (40, 1000)])
def test_bounds_are_those_of_statsmodels(passed: int, of: int) -> None:
    """Two one-sided bounds at 5 % are the two ends of a 90 % interval."""
    expected = proportion_confint(passed, of, alpha=0.10, method="wilson")
    assert wilson_bounds(passed, of) == pytest.approx(expected, abs=1e-12)
