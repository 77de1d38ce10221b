"""How repeats become one number: against brute force over every way to draw them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest

from harness.core.repeats import RepeatVerdict, case_value, check_verdict, parse_verdict
from harness.core.scoring import case_values
from harness.errors import UsageError
from harness.records import Fault, Run, Score, Trial
from harness.surface.tables import estimate_of
from harness.testing.scripted import make_run

NAN = math.nan


def run_of(values: dict[str, list[float | Fault | None]], *, verdict: str | None = None) -> Run:
    """A run in which each case has these values of the score `right`, or a fault, in repeats."""
    trials = [
        Trial(case_id=case, repeat=i, fault=v)
        if isinstance(v, Fault)
        else Trial(case_id=case, repeat=i, scores=(Score(name="right", value=v),))
        for case, some in values.items()
        for i, v in enumerate(some)
    ]
    return replace(
        make_run(),
        trials=tuple(trials),
        repeats=max(map(len, values.values())),
        repeat_verdict=verdict,
    )


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_and_pass_hat_k_are_the_shares_of_draws(n: int) -> None:
    """Unbiased means: the share of all draws of k repeats in which any, or every, one passes."""
    for c in range(n + 1):
        values = [1.0] * c + [0.0] * (n - c)
        for k in range(1, n + 1):
            draws = list(combinations(values, k))
            any_ = sum(max(d) for d in draws) / len(draws)
            every = sum(min(d) for d in draws) / len(draws)
            assert case_value(values, parse_verdict(f"pass@{k}")) == pytest.approx(any_)
            assert case_value(values, parse_verdict(f"pass^{k}")) == pytest.approx(every)


@pytest.mark.parametrize(
    ("verdict", "values", "expected"),
    [
        ("mean", [1.0, 0.5, NAN], 0.75),
        ("2 of 3", [1.0, 0.5, 1.0], 1.0),
        ("2 of 3", [1.0, 0.5, 0.9], 0.0),  # a partial score is no pass
        ("2 of 3", [1.0, 1.0, NAN], 1.0),  # reached, whatever the third had said
        ("2 of 3", [0.0, 0.0, NAN], 0.0),  # out of reach
        ("2 of 3", [1.0, 0.0, NAN], NAN),  # the third would have decided
        ("2 of 3", [1.0, 0.0], NAN),  # so it is where it was never asked
        ("pass@2", [1.0, 0.0, NAN], 1.0),  # the two that answered are enough
        ("pass^2", [1.0, 0.0, NAN], 0.0),
        ("pass^2", [1.0, NAN, NAN], NAN),
        ("pass^2", [None, None, None], None),
        ("pass^2", [1.0, None, 1.0], 1.0),
    ],
)
def test_missing_repeats_decide_nothing(
    verdict: str, values: list[float | None], expected: float | None
) -> None:
    assert case_value(values, parse_verdict(verdict)) == pytest.approx(expected, nan_ok=True)


def test_a_failure_of_the_system_is_a_failed_repeat_and_trouble_is_a_missing_one() -> None:
    overflow = Fault(origin="backend", message="context overflow")
    lost = Fault(origin="backend", message="refused", is_missing=True)
    run = run_of({"a": [1.0, overflow], "b": [1.0, lost], "c": [1.0, 1.0]}, verdict="pass^2")
    values = case_values(run, "right")
    assert values["a"] == 0.0
    assert math.isnan(values["b"] or 0.0)
    assert values["c"] == 1.0


def test_a_run_without_a_verdict_has_the_mean_as_ever() -> None:
    assert case_values(run_of({"a": [1.0, 0.0, 0.25]}), "right") == {"a": pytest.approx(5 / 12)}


@pytest.mark.parametrize("verdict", [None, "pass^1", "pass@1"])
def test_asking_twice_as_often_makes_no_interval_shorter(verdict: str | None) -> None:
    """The same answers once more are no new cases (PEERS: case x repeat taken for cases)."""
    answers: dict[str, list[float | Fault | None]] = {
        f"c{i}": [float(i % 3 > 0), float(i % 2)] for i in range(20)
    }
    once = estimate_of(run_of(answers, verdict=verdict), "right", clusters={})
    often = estimate_of(
        run_of({c: v * 4 for c, v in answers.items()}, verdict=verdict), "right", clusters={}
    )
    assert once is not None
    assert once == often
    assert once.n == 20


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("median", "is not one of mean, `K of N`, pass@K or pass^K"),
        ("pass@0", "K counts from 1"),
        ("pass^x", "is not one of"),
        ("4 of 3", "can never pass"),
        ("2 of 4", "speaks of 4 repeats, and there are 3"),
        ("pass^4", "needs 4 repeats or more, and there are 3"),
    ],
)
def test_a_verdict_that_cannot_be_says_why(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        check_verdict(text, repeats=3)
    assert says in str(error.value)


def test_spaces_do_not_matter() -> None:
    assert parse_verdict(" 2  of 3 ") == RepeatVerdict(kind="of", k=2, n=3)
    assert parse_verdict("pass ^ 2") == RepeatVerdict(kind="all", k=2)
