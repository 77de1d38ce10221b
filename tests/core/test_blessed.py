"""The blessed file: what it keeps, and what is none."""

from __future__ import annotations

import math

import pytest

from harness.core.blessed import (
    Blessed,
    BlessedCase,
    bless,
    changed_cases,
    from_text,
    pair_with,
    to_text,
    why_stale,
)
from harness.core.usage import Usage
from harness.errors import Refused, UsageError
from harness.records import Candidate, Fault, Run, Score, Trial


def run_of(values: list[float | None], *, digests: str = "d", **changes: object) -> Run:
    """A run of three repeats a case; NaN is a reply that was lost."""
    trials = []
    for k, value in enumerate(values):
        for repeat in range(3):
            lost = value is not None and math.isnan(value)
            passed = value if value is None or value in {0, 1} else float(repeat < 3 * value)
            trials.append(
                Trial(
                    case_id=f"c{k}",
                    repeat=repeat,
                    scores=() if lost else (Score(name="right", value=passed),),
                    fault=Fault(origin="backend", message="x", is_missing=True) if lost else None,
                    case_digest=f"{digests}{k}",
                )
            )
    plain: dict[str, object] = {
        "task": "t", "split": "dev", "candidate": Candidate(name="a", backend="x:y"),
        "inputs_digest": "i", "labels_digest": "l", "evals_digest": "e" * 64,
        "is_complete": True, "trials": tuple(trials), "repeats": 3,
    }  # fmt: skip
    return Run(**(plain | changes))  # type: ignore[arg-type]


def blessed_of(run: Run) -> Blessed:
    return bless(run, primary="right", usage=Usage(replies=4, latency_s=0.5, cost_usd=0.2))


def test_a_file_is_read_as_it_was_written() -> None:
    before = blessed_of(run_of([1, 0, 2 / 3, None]))
    after = from_text(to_text(before), place="b.json")
    assert after.cases["c2"] == BlessedCase(digest="d2", score=pytest.approx(2 / 3), passed=2, of=3)
    assert (after.cases, after.usage) == (before.cases, {"latency_s": 0.5, "cost_usd": 0.05})
    assert to_text(after) == to_text(before)


def test_a_lost_reply_stays_missing() -> None:
    after = from_text(to_text(blessed_of(run_of([1, math.nan]))), place="b.json")
    lost = after.cases["c1"].score
    assert lost is not None
    assert math.isnan(lost)
    pair = pair_with(after, run_of([1, 1]), primary="right", clusters={"c0": "k", "c1": "l"})
    assert pair.missing == 0.5


def test_a_partial_run_is_not_blessed() -> None:
    with pytest.raises(UsageError, match="partial"):
        blessed_of(run_of([1, 1], is_complete=False))


def test_other_terms_are_told() -> None:
    blessed = blessed_of(run_of([1]))
    assert why_stale(blessed, run_of([0]), primary="right") is None
    assert "primary score" in str(why_stale(blessed, run_of([0]), primary="all"))
    assert "evals" in str(why_stale(blessed, run_of([0], evals_digest="f" * 64), primary="right"))
    assert "repeats" in str(why_stale(blessed, run_of([0], repeats=1), primary="right"))


def test_other_cases_are_refused_and_one_in_many_is_left_out() -> None:
    blessed = blessed_of(run_of([1] * 40))
    clusters = {f"c{k}": f"k{k}" for k in range(40)}
    now = run_of([1] * 40)
    trials = tuple(
        Trial(case_id=t.case_id, repeat=t.repeat, scores=t.scores, case_digest="other")
        if t.case_id == "c3"
        else t
        for t in now.trials
    )
    one = run_of([1] * 40, trials=trials)
    assert changed_cases(blessed, one) == ["c3"]
    assert len(pair_with(blessed, one, primary="right", clusters=clusters).case_ids) == 39
    with pytest.raises(Refused, match="share 0 of 40"):
        pair_with(blessed, run_of([1] * 40, digests="e"), primary="right", clusters=clusters)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a blessed baseline"),
        ('{"format": "tuning-harness blessed 1"}', "damaged"),
        ('{"format": "tuning-harness blessed 1", "cases": {"a": ["d", 7]}}', "damaged"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_place(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as told:
        from_text(text, place="b.json")
    assert str(told.value).startswith("b.json: ")
