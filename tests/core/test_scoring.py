"""Misses, faults and unscored scores are three things."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.core.scoring import case_values, is_unscored, trial_value
from harness.records import Fault, Score, Trial
from harness.testing import make_run


def test_a_score_that_a_fault_made_missing_is_not_unscored() -> None:
    broken = Score(name="a", value=None, reason="ZeroDivisionError", is_fault=True)
    empty = Score(name="b", value=None, reason="nothing to measure")
    fault = Fault(origin="eval", message="ZeroDivisionError")
    new = Trial(case_id="c", scores=(broken, empty), fault=fault)
    assert [is_unscored(new, s) for s in new.scores] == [False, True]
    old = Trial(case_id="c", scores=(empty,), fault=fault)
    assert not is_unscored(old, empty), "an older record does not say which it is"
    assert is_unscored(Trial(case_id="c", scores=(empty,)), empty)


def test_what_goes_wrong_says_nothing_of_a_score_whose_eval_did_not_run() -> None:
    broken = Score(name="y", value=None, reason="AttributeError", is_fault=True)
    of_the_eval = Fault(origin="eval", message="y: AttributeError", is_missing=True)
    down = Fault(origin="backend", message="down", is_missing=True)
    too_long = Fault(origin="backend", message="the prompt does not fit", is_missing=False)
    for fault in (of_the_eval, down, too_long):
        trial = Trial(case_id="c", scores=(broken,), fault=fault)
        assert trial_value(trial, "right") is None, fault
        assert trial_value(trial, "y") is not None, fault
    # nothing tells what a reply that never came would have been scored by: it lacks all
    assert math.isnan(trial_value(Trial(case_id="c", fault=down), "right") or 0)
    assert trial_value(Trial(case_id="c", fault=too_long), "right") == 0


def test_a_run_of_nothing_but_aggregates_has_no_case_score() -> None:
    too_long = Trial(case_id="c", fault=Fault(origin="backend", message="x", is_missing=False))
    run = replace(make_run([]), trials=(too_long,))
    assert case_values(run, "all") == {"c": 0.0}
    over_all = replace(run, aggregates=(Score(name="length", value=0.5),))
    assert case_values(over_all, "all") == {"c": None}
