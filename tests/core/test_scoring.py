"""Misses, faults and unscored scores are three things."""

from __future__ import annotations

from harness.core.scoring import is_unscored
from harness.records import Fault, Score, Trial


def test_a_score_that_a_fault_made_missing_is_not_unscored() -> None:
    broken = Score(name="a", value=None, reason="ZeroDivisionError", is_fault=True)
    empty = Score(name="b", value=None, reason="nothing to measure")
    fault = Fault(origin="eval", message="ZeroDivisionError")
    new = Trial(case_id="c", scores=(broken, empty), fault=fault)
    assert [is_unscored(new, s) for s in new.scores] == [False, True]
    old = Trial(case_id="c", scores=(empty,), fault=fault)
    assert not is_unscored(old, empty), "an older record does not say which it is"
    assert is_unscored(Trial(case_id="c", scores=(empty,)), empty)
