"""Each answer of the release gate, and that no check can hide behind another."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from harness.core.release import (
    Advantage,
    Budget,
    Guard,
    Pair,
    compare,
    judge_release,
    shown_loss,
)
from harness.core.release_checks import judge_guard, judge_primary
from harness.errors import UsageError
from harness.records import Check, Condition, ReleaseVerdict

N = 300


def pair(name: str, *, wins: int = 0, losses: int = 0, n: int = N, **more: Any) -> Pair:
    """n cases of which the candidate alone solves `wins` and the baseline alone `losses`."""
    candidate, baseline = np.ones(n), np.ones(n)
    baseline[:wins] = 0
    candidate[wins : wins + losses] = 0
    order = np.random.default_rng(n).permutation(n)
    return Pair(name=name, candidate=candidate[order], baseline=baseline[order], **more)


def judge(primary: Pair, **terms: Any) -> ReleaseVerdict:
    compared = compare(primary, task="t", split="test", baseline="prompt", candidate="tuned")
    return judge_release(compared, primary=primary, **terms)


def check(verdict: ReleaseVerdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


BETTER = pair("same_query", wins=60, losses=5)


def test_a_clear_gain_ships_and_says_by_how_much() -> None:
    found = judge(BETTER)
    assert found.answer == "SHIP"
    assert "better by 18.3 points (at least" in found.reason
    assert "without a history of looks" in found.reason
    assert found.alpha == 0.05


def test_the_first_look_spends_four_percent_and_leaves_one() -> None:
    found = judge(BETTER, look=1)
    assert (found.look, found.alpha, found.alpha_left) == (1, 0.04, pytest.approx(0.01))
    assert "history" not in found.reason


def test_a_later_look_asks_for_more() -> None:
    close = pair("s", wins=30, losses=13)
    assert judge(close, look=1).answer == "SHIP"
    assert judge(close, look=5).answer == "INSUFFICIENT_EVIDENCE"


def test_all_ties_never_ship_and_block_only_once_a_gain_that_matters_is_excluded() -> None:
    few = judge(pair("s", n=100))
    assert few.answer == "INSUFFICIENT_EVIDENCE"
    many = judge(pair("s", n=1000))
    assert many.answer == "BLOCK"
    assert "too little to matter" in many.reason


def test_a_shown_loss_blocks() -> None:
    found = judge(pair("s", wins=5, losses=60))
    assert found.answer == "BLOCK"
    assert "lost 18.3 points (at least" in found.reason


def test_an_open_question_says_how_many_cases_would_settle_it() -> None:
    found = judge(pair("s", wins=20, losses=12))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert found.need_cases is not None
    assert found.need_cases >= 450
    assert f"about {found.need_cases} cases" in found.reason


def test_a_guardrail_must_be_shown_to_hold() -> None:
    held = judge(BETTER, guards=[Guard(pair=pair("parses"), margin=0.03)])
    assert held.answer == "SHIP"
    assert "parses holds" in held.reason
    unsure = judge(BETTER, guards=[Guard(pair=pair("parses", losses=6), margin=0.03)])
    assert unsure.answer == "INSUFFICIENT_EVIDENCE"
    broken = judge(BETTER, guards=[Guard(pair=pair("parses", losses=60), margin=0.03)])
    assert broken.answer == "BLOCK"
    assert "parses lost 20 points" in broken.reason
    assert check(broken, "parses").threshold == -0.03


def test_blocking_shares_its_error_among_the_checks() -> None:
    """A loss that blocks alone does not when twenty checks each had their chance."""
    loss = Guard(pair=pair("a", losses=20), margin=0.03, is_must_hold=False)
    assert judge(BETTER, guards=[loss]).answer == "BLOCK"
    calm = [Guard(pair=pair(f"g{i}"), margin=0.2) for i in range(40)]
    assert judge(BETTER, guards=[loss, *calm]).answer == "SHIP"


def test_watch_slices_can_only_block() -> None:
    unsure = pair("slow", losses=3, n=60)
    must = judge(BETTER, guards=[Guard(pair=unsure, margin=0.05, kind="slice")])
    assert must.answer == "INSUFFICIENT_EVIDENCE"
    watch = Guard(pair=unsure, margin=0.05, kind="slice", is_must_hold=False)
    found = judge(BETTER, guards=[watch])
    assert found.answer == "SHIP"
    assert "watched only: a loss above" in check(found, "slice slow").text
    ruined = Guard(pair=pair("slow", losses=40, n=60), margin=0.05, kind="slice",
                   is_must_hold=False)  # fmt: skip
    assert judge(BETTER, guards=[ruined]).answer == "BLOCK"


def test_a_slice_below_twenty_cases_is_watched_only() -> None:
    small = Guard(pair=pair("rare", losses=1, n=19), margin=0.05, kind="slice")
    assert judge(BETTER, guards=[small]).answer == "SHIP"
    larger = Guard(pair=pair("rare", losses=1, n=20), margin=0.05, kind="slice")
    assert judge(BETTER, guards=[larger]).answer == "INSUFFICIENT_EVIDENCE"


def test_a_slice_of_which_nothing_can_be_said_excludes_no_loss() -> None:
    few = Guard(pair=pair("rare", losses=1, n=9), margin=0.05, kind="slice")
    said = check(judge(BETTER, guards=[few]), "slice rare").text
    assert said.endswith("nothing can be said: add cases; watched only")


def test_a_slice_without_a_loss_says_so_once() -> None:
    watched = [
        Guard(pair=pair(name, wins=wins, n=80), margin=0.05, kind="slice", is_must_hold=False)
        for name, wins in (("much", 20), ("none", 0))
    ]
    found = judge(BETTER, guards=watched)
    said = check(found, "slice much").text
    assert said.endswith("): a loss is excluded (margin 5 points); watched only")
    said = check(found, "slice none").text
    assert re.search(r"\): loses at most [\d.]+ points \(margin 5 points\); watched only$", said)


def test_more_than_four_must_hold_slices_are_refused() -> None:
    slices = [Guard(pair=pair(f"s{i}"), margin=0.05, kind="slice") for i in range(5)]
    with pytest.raises(UsageError, match="watch slices"):
        judge(BETTER, guards=slices)


def test_below_ten_clusters_scores_decide_nothing_but_a_broken_parity_still_blocks() -> None:
    few = pair("s", wins=60, clusters=[f"c{i % 9}" for i in range(N)])
    assert judge(few).answer == "INSUFFICIENT_EVIDENCE"
    broken = Condition(name="parity", holds=False, text="EOS is not supervised")
    assert judge(few, conditions=[broken]).answer == "BLOCK"


def test_conditions_must_be_known_to_hold() -> None:
    def with_parity(holds: bool | None) -> str:
        return judge(BETTER, conditions=[Condition(name="parity", holds=holds, text="x")]).answer

    assert [with_parity(h) for h in (True, False, None)] == [
        "SHIP", "BLOCK", "INSUFFICIENT_EVIDENCE",
    ]  # fmt: skip


def test_more_than_two_percent_missing_in_either_arm_is_re_run() -> None:
    holed = np.array(BETTER.candidate)
    holed[:7] = np.nan
    found = judge(Pair(name="s", candidate=holed, baseline=BETTER.baseline))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "re-run" in found.reason


def test_a_few_missing_are_taken_at_the_worst() -> None:
    thin = pair("s", wins=14, losses=4)
    assert judge(thin).answer == "SHIP"
    candidate = np.array(thin.candidate)
    candidate[np.flatnonzero(np.array(thin.baseline) == 1)[:5]] = np.nan
    found = judge(Pair(name="s", candidate=candidate, baseline=thin.baseline))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "5 cases missing" in found.reason


def test_the_latency_budget_needs_59_cases() -> None:
    def latency(n: int, worst_s: float) -> str:
        values = [0.5] * (n - 1) + [worst_s]
        budget = Budget(name="latency", values=values, limit=1.0, unit="s")
        return check(judge(BETTER, budgets=[budget]), "latency (p95)").answer

    assert latency(58, 0.5) == "INSUFFICIENT_EVIDENCE"
    assert latency(59, 0.5) == "SHIP"
    assert latency(59, 2.0) == "INSUFFICIENT_EVIDENCE"
    assert latency(200, 2.0) == "SHIP"


def test_a_budget_that_is_clearly_broken_blocks() -> None:
    slow = Budget(name="latency", values=[2.0] * 100, limit=1.0, unit="s")
    dear = Budget(name="cost", values=[0.02, 0.03] * 50, limit=0.01, quantile=None, unit="USD")
    for budget in (slow, dear):
        assert judge(BETTER, budgets=[budget]).answer == "BLOCK"
    cheap = Budget(name="cost", values=[0.002, 0.003] * 50, limit=0.01, quantile=None)
    assert judge(BETTER, budgets=[cheap]).answer == "SHIP"


def test_a_bound_that_unknown_times_reach_into_says_so_and_asks_for_no_cases() -> None:
    values = [None, *[0.5] * 99]
    budget = Budget(name="latency", values=values, limit=1.0, quantile=0.99, unit="s")
    found = check(judge(BETTER, budgets=[budget]), "latency (p99)")
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "are too few" in found.text  # of so few, the largest is no bound at all
    values = [*[None] * 6, *[0.5] * 594]
    budget = Budget(name="latency", values=values, limit=1.0, quantile=0.99, unit="s")
    found = check(judge(BETTER, budgets=[budget]), "latency (p99)")
    assert (
        found.text
        == "latency (p99): unknown for 1 % of the cases, too many for an upper bound (limit 1 s)"
    )


def test_unknown_costs_do_not_pass_a_budget() -> None:
    values = [None] * 3 + [0.001] * 97
    unknown = Budget(name="cost", values=values, limit=0.01, quantile=None)
    assert judge(BETTER, budgets=[unknown]).answer == "INSUFFICIENT_EVIDENCE"


def test_unknown_times_do_not_break_a_budget() -> None:
    slow = [*[3.0] * 45, *[1.0] * 935]  # fewer than 5 % of what is known
    known = Budget(name="latency", values=slow, limit=2.0, unit="s")
    assert check(judge(BETTER, budgets=[known]), "latency (p95)").answer != "BLOCK"
    unknown = Budget(name="latency", values=[*slow, *[None] * 20], limit=2.0, unit="s")
    found = check(judge(BETTER, budgets=[unknown]), "latency (p95)")
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    dear = [*[0.009] * 490, 1.0, *[None] * 9]
    limit = Budget(name="cost", values=dear, limit=0.0115, quantile=None, unit="$")
    assert check(judge(BETTER, budgets=[limit]), "cost (mean)").answer != "BLOCK"


# ---------------------------------------------------------------- goal match


EQUAL = pair("s", wins=5, losses=5, n=600)
CHEAPER = Advantage(
    name="cost",
    candidate=np.random.default_rng(1).uniform(0.1, 0.2, 600),
    baseline=np.random.default_rng(2).uniform(0.9, 1.1, 600),
)


def test_equal_and_cheaper_matches() -> None:
    found = judge(EQUAL, goal="match", margin=0.05, advantages=[CHEAPER])
    assert found.answer == "SHIP"
    assert found.goal == "match"
    assert "times the baseline's" in check(found, "cost").text


@pytest.mark.parametrize("arm", ["candidate", "baseline"])
def test_what_is_unknown_of_an_arm_shows_no_advantage_and_none_lost(arm: str) -> None:
    """Both arms take the same; one case takes a hundred times as long as the others."""
    took = np.random.default_rng(3).lognormal(0.0, 0.3, 600)
    took[0] = 100.0
    told = {"candidate": took, "baseline": took * np.tile([0.99, 1 / 0.99], 300)}
    told[arm] = np.where(np.arange(600) % 60 == 7, np.nan, told[arm])
    latency = Advantage(name="latency", candidate=told["candidate"], baseline=told["baseline"])
    found = judge(EQUAL, goal="match", margin=0.05, advantages=[latency])
    assert check(found, "latency").answer == "INSUFFICIENT_EVIDENCE"


OPEN = pair("s", wins=9, losses=5, n=100)


def test_a_bound_says_at_which_error_it_is_drawn() -> None:
    assert re.search(r"\(\S+ to \S+ at this look's 4 %\)", check(judge(OPEN, look=1), "s").text)
    terms = {"alpha": 0.01, "block_alpha": 0.01, "is_look": False}
    on_dev = judge_guard(Guard(pair=OPEN, margin=0.05), **terms)
    assert re.search(r"\(\S+ to \S+ at 1 %\)", on_dev.check.text)
    won = judge_primary(pair("s", wins=60, n=100), min_gain=0.0, **terms)
    assert re.search(r"\(at least \S+ points at 1 %\)", won.check.text)


@pytest.mark.parametrize(
    ("values", "limit", "unit", "says"),
    [
        (3.96e-05, 2.0, "s", "at most 0.04 ms (limit 2 s)"),
        (0.04, 0.5, "s", "at most 40 ms (limit 500 ms)"),
        (1.234, 1.23, "s", "at least 1.234 s (limit 1.23 s)"),
        (0.0005, 0.001, "$", "at most 0.05 cents (limit 0.1 cents)"),
        (12.3, 1250.5, "$", "at most 12 $ (limit 1250.5 $)"),
    ],
)
def test_small_amounts_are_told_in_units_that_people_read(
    values: float, limit: float, unit: str, says: str
) -> None:
    budget = Budget(name="took", values=[values] * 600, limit=limit, unit=unit)
    assert says in check(judge(EQUAL, budgets=[budget]), "took (p95)").text


def test_a_tiny_ratio_and_a_tiny_difference_are_not_zero() -> None:
    tiny = Advantage(name="latency", candidate=[4.1e-5] * 600, baseline=[0.01] * 600)
    found = judge(EQUAL, goal="match", margin=0.05, advantages=[tiny])
    assert "latency 0.0041 times the baseline's" in check(found, "latency").text
    free = Advantage(name="cost", candidate=[0.0] * 600, baseline=[0.0012] * 600)
    found = judge(EQUAL, goal="match", margin=0.05, advantages=[free])
    assert "cost -0.12 cents a case" in check(found, "cost").text


def test_equal_and_dearer_is_blocked() -> None:
    dearer = Advantage(name="cost", candidate=CHEAPER.baseline, baseline=CHEAPER.candidate)
    assert judge(EQUAL, goal="match", margin=0.05, advantages=[dearer]).answer == "BLOCK"


def test_worse_by_more_than_the_margin_is_blocked_however_cheap() -> None:
    worse = pair("s", losses=90, n=600)
    found = judge(worse, goal="match", margin=0.05, advantages=[CHEAPER])
    assert found.answer == "BLOCK"


def test_a_free_candidate_is_cheaper_than_a_paid_one() -> None:
    free = Advantage(name="cost", candidate=[0.0] * 600, baseline=CHEAPER.baseline)
    assert judge(EQUAL, goal="match", margin=0.05, advantages=[free]).answer == "SHIP"


def test_a_boundary_is_an_advantage_as_a_fact() -> None:
    inside = Condition(name="boundary", holds=True, text="answers stay on this machine")
    assert judge(EQUAL, goal="match", margin=0.05, advantages=[inside]).answer == "SHIP"


def test_match_needs_a_margin_and_an_advantage() -> None:
    with pytest.raises(UsageError, match="margin"):
        judge(EQUAL, goal="match", advantages=[CHEAPER])
    with pytest.raises(UsageError, match="better in"):
        judge(EQUAL, goal="match", margin=0.05)
    with pytest.raises(UsageError, match="beat, match"):
        judge(EQUAL, goal="win")


def test_compare_alarms_only_on_a_shown_loss() -> None:
    def alarm(one: Pair) -> str | None:
        return shown_loss(compare(one, task="t", split="dev", baseline="b", candidate="c"))

    assert alarm(BETTER) is None
    assert alarm(pair("s", wins=2, losses=4)) is None
    assert "lost 20 points" in str(alarm(pair("s", losses=60)))
