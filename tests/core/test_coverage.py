from __future__ import annotations

import pytest

from harness.core.coverage import PROFILES, judge_coverage, profile_named
from harness.errors import UsageError

QUICK, STANDARD = PROFILES["quick"], PROFILES["standard"]
SEVEN = [
    "zero-shot", "instructions", "few-shot", "dynamic-few-shot", "chain-of-thought", "constrained",
    "optimised",
]  # fmt: skip


def test_seven_tries_of_seven_families_cover_quick_but_not_standard() -> None:
    assert judge_coverage(SEVEN, QUICK).is_complete
    found = judge_coverage(SEVEN, STANDARD)
    assert not found.is_complete
    assert found.tries_short == 7
    assert found.families_short == 5
    assert "instructions (1 more try)" in found.owed


def test_two_tries_each_cover_standard() -> None:
    assert judge_coverage(SEVEN * 2, STANDARD).is_complete


def test_knowledge_tasks_owe_rag() -> None:
    assert judge_coverage(SEVEN, QUICK, needs_knowledge=True).owed == ("rag",)
    assert judge_coverage([*SEVEN, "rag"], QUICK, needs_knowledge=True).is_complete


def test_either_kind_of_few_shot_will_do() -> None:
    only_dynamic = [f for f in SEVEN if f != "few-shot"] + ["zero-shot"]
    assert judge_coverage(only_dynamic, QUICK).owed == ()
    neither = [f for f in SEVEN if "few-shot" not in f] + ["zero-shot"] * 2
    assert judge_coverage(neither, QUICK).owed == ("few-shot or dynamic-few-shot",)


def test_a_waived_family_is_excused_but_does_not_count_among_the_five() -> None:
    waivers = {"chain-of-thought": "one-token answers", "optimised": "no optimiser yet"}
    four = ["zero-shot", "instructions", "few-shot", "dynamic-few-shot"]
    found = judge_coverage([*four, *four], QUICK, waivers=waivers)
    assert found.owed == ()
    assert found.families_short == 1
    assert not found.is_complete
    assert judge_coverage([*four, *four, "constrained"], QUICK, waivers=waivers).is_complete


def test_a_family_whose_tries_gave_the_replies_of_another_was_tried() -> None:
    """Where most tries did, writing one more is not what it lacks; where few did, it is."""
    most = judge_coverage(["zero-shot"], QUICK, echoes=["instructions", "few-shot", "few-shot"])
    assert most.owed == ("chain-of-thought", "optimised")
    assert most.echoed == ("instructions", "few-shot or dynamic-few-shot")
    assert not most.is_complete
    assert "waived with a reason: chain-of-thought and optimised; tried, with the" in most.text
    few = judge_coverage([f for f in SEVEN if f != "instructions"], QUICK, echoes=["instructions"])
    assert few.owed == ("instructions (1 gave the very replies of another try)",)
    assert few.echoed == ()
    all_but = [f for f in SEVEN if f != "optimised"]
    assert not judge_coverage(all_but, QUICK, echoes=["optimised"] * 9).is_complete


def test_a_family_is_owed_though_families_and_tries_are_enough() -> None:
    found = judge_coverage([f for f in SEVEN if f != "optimised"] * 3, STANDARD)
    assert (found.families_short, found.tries_short) == (0, 0)
    assert not found.is_complete
    assert found.text.endswith("still needed, or waived with a reason: optimised")


def test_the_reason_of_a_waiver_is_printed() -> None:
    found = judge_coverage(SEVEN[:-1], QUICK, waivers={"optimised": "no optimiser yet"})
    assert "optimised waived: no optimiser yet" in found.text
    assert found.waived == {"optimised": "no optimiser yet"}
    waivers = {"chain-of-thought": "Too slow.", "optimised": "No optimiser yet."}
    text = judge_coverage(["zero-shot"], QUICK, waivers=waivers).text
    assert "chain-of-thought waived: Too slow; optimised waived: No optimiser yet." in text


def test_a_family_that_was_tried_needs_no_waiver_and_prints_none() -> None:
    assert judge_coverage(SEVEN, QUICK, waivers={"optimised": "was to be"}).waived == {}


def test_an_unknown_waiver_or_one_without_reason_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cot"):
        judge_coverage(SEVEN, QUICK, waivers={"cot": "too slow"})
    with pytest.raises(UsageError, match="written reason"):
        judge_coverage(SEVEN, QUICK, waivers={"rag": "  "})


def test_profiles_know_how_far_they_speak() -> None:
    assert [STANDARD.horizon(k) for k in (14, 20, 21, 28)] == [2, 2, 3, 4]
    assert QUICK.horizon(28) == 1
    with pytest.raises(UsageError, match="quick, standard"):
        profile_named("fast")


def test_the_rule_of_seven_keeps_the_joint_error_below_five_percent() -> None:
    """P(K failures and then a success within K//7), at its worst chance per try."""
    for tries in range(14, 80):
        ahead = STANDARD.horizon(tries)
        worst = max(
            (1 - q) ** tries * (1 - (1 - q) ** ahead) for q in (i / 1000 for i in range(1, 300))
        )
        assert worst <= 0.0492
