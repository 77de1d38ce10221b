"""Each verdict of the wall, reached the way a person would reach it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.core.audit import LabelAudit
from harness.core.bounds import mean_bounds
from harness.core.wall import Confirmation, TryScores, WallInput, judge_wall, nominee
from harness.errors import UsageError
from harness.records import WallVerdict, canonical_json

FAMILIES = (
    "zero-shot", "instructions", "few-shot", "dynamic-few-shot", "constrained", "optimised",
    "chain-of-thought",
)  # fmt: skip


def scores(share: float, n: int, *, shift: int = 0) -> np.ndarray:
    """n scores with exactly that share of 1, spread over the cases; `shift` moves which."""
    row = np.zeros(n)
    row[: round(share * n)] = 1
    return np.random.default_rng(shift).permutation(row)


def ladder(shares: Sequence[float], n: int = 200) -> list[TryScores]:
    return [
        TryScores(name=f"p{k}", family=FAMILIES[k % 7], scores=scores(share, n, shift=k))
        for k, share in enumerate(shares)
    ]


def wall_input(tries: Sequence[TryScores], **changes: Any) -> WallInput:
    n = len(tries[0].scores) if tries else 0
    plain: dict[str, Any] = {
        "task": "t",
        "tries": tries,
        "target": 0.8,
        "profile": "quick",
        "reference_scores": [1.0] * n,
        "waivers": {"labels": "made by a generator"},
    }
    return WallInput(**(plain | changes))


def holds(verdict: WallVerdict) -> dict[str, bool | None]:
    return {condition.name: condition.holds for condition in verdict.conditions}


FLAT = [0.50, 0.52, 0.51, 0.49, 0.50, 0.51, 0.50]


def test_a_flat_ladder_far_below_is_a_wall_and_says_what_it_rests_on() -> None:
    found = judge_wall(wall_input(ladder(FLAT), model="local:tiny", notes=["3 labels edited"]))
    assert found.answer == "WALL"
    assert all(holds(found).values())
    assert list(holds(found)) == [
        "coverage", "level", "reach", "not climbing", "resolution", "clusters",
        "positive control", "labels",
    ]  # fmt: skip
    assert found.best == "p1"
    assert found.horizon == 1
    assert "You tried 7 prompts from 7 families on 200 cases" in found.reason
    assert "speaks for the next try only" in found.reason
    assert "does not rule out a new idea" in found.reason
    assert any("local:tiny" in note for note in found.notes)
    assert "3 labels edited" in found.notes
    assert "made by a generator" in found.conditions[-1].text
    canonical_json(found)  # no NaN, no infinity


def test_what_all_prompts_together_reach_and_never_solve_is_noted_and_decides_nothing() -> None:
    rng = np.random.default_rng(1)
    solves = np.where(np.arange(200) < 20, 0.0, 0.55)
    repeats = [(rng.random((200, 4)) < solves[:, None]).astype(float) for _ in FLAT]
    names = [f"case {i}" for i in range(200)]
    tries = [
        replace(rung, scores=table.mean(axis=1), repeats=table)
        for rung, table in zip(ladder(FLAT), repeats, strict=True)
    ]
    found = judge_wall(wall_input(tries, case_ids=names))
    bare = judge_wall(wall_input([replace(rung, repeats=None) for rung in tries]))
    assert found.answer == bare.answer == "WALL"
    assert found.conditions == bare.conditions
    [ceiling] = [note for note in found.notes if "Picking the best prompt" in note]
    assert "4 repeats" in ceiling
    low, high = (float(share) for share in re.findall(r"([\d.]+) %", ceiling))
    assert low < 100 * 0.9 * 0.55 + 5 < 75 < high  # all tries are one coin, whatever the best says
    assert any("No try solves 20 cases of 200 (case 0, case 1" in note for note in found.notes)
    assert any("at most" in n and "one repeat: biased up" in n for n in bare.notes)
    assert any("No try solves 20 cases of 200: mislabelled" in note for note in bare.notes)


def test_the_same_input_gives_the_same_verdict() -> None:
    one, other = (judge_wall(wall_input(ladder(FLAT))) for _ in range(2))
    assert one.id == other.id


def test_plain_lists_and_none_do_as_well_as_arrays() -> None:
    tries = ladder(FLAT)
    plain = [replace(rung, scores=rung.scores.tolist()) for rung in tries]
    assert judge_wall(wall_input(plain)).id == judge_wall(wall_input(tries)).id


# ---------------------------------------------------------------- evidence too thin


def test_below_ten_clusters_nothing_can_be_said_however_good() -> None:
    tries = ladder([1.0] * 7, n=90)
    found = judge_wall(wall_input(tries, clusters=[f"c{i % 9}" for i in range(90)]))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "9 clusters" in found.reason


def test_ten_to_twenty_nine_clusters_ship_but_never_wall() -> None:
    names = [f"c{i % 25}" for i in range(200)]
    good = judge_wall(wall_input(ladder([0.99] * 7), clusters=names))
    assert good.answer == "SHIP_PROMPT"
    bad = judge_wall(wall_input(ladder(FLAT), clusters=names))
    assert bad.answer == "INSUFFICIENT_EVIDENCE"
    assert holds(bad)["clusters"] is False
    assert bad.need_cases is not None
    assert "A wall needs 30 clusters" in bad.reason


def test_one_cluster_with_a_quarter_of_the_cases_is_no_wall() -> None:
    names = ["big"] * 50 + [f"c{i}" for i in range(150)]
    found = judge_wall(wall_input(ladder(FLAT), clusters=names))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    text = next(c.text for c in found.conditions if c.name == "clusters")
    assert "the largest holds 25 %" in text
    assert "tell as much as 15 equal ones" in text


def test_a_hundred_cases_and_a_near_miss_do_not_tell() -> None:
    found = judge_wall(wall_input(ladder([0.74, 0.77, 0.75, 0.76, 0.74, 0.77, 0.75], n=100)))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert found.need_cases is not None
    assert 150 <= found.need_cases <= 2000
    assert "cases" in found.next_step


def test_more_than_two_percent_missing_is_re_run_and_named() -> None:
    tries = ladder(FLAT)
    holed = tries[3].scores.copy()
    holed[:5] = np.nan
    tries[3] = replace(tries[3], scores=holed)
    found = judge_wall(wall_input(tries))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "Re-run p3" in found.next_step


def test_a_wall_survives_that_the_missing_were_solved() -> None:
    """Within two percent: at .68 of 200 the wall just stands, with four solved it does not."""
    tries = ladder([0.735, 0.69, 0.70, 0.69, 0.70, 0.69, 0.70])
    solid = judge_wall(wall_input(tries, profile="quick", mid=0.2))
    assert holds(solid)["level"] is True
    best = tries[0].scores.copy()
    best[np.flatnonzero(best == 0)[:4]] = np.nan
    holed = judge_wall(wall_input([replace(tries[0], scores=best), *tries[1:]], mid=0.2))
    assert holds(holed)["level"] is False
    assert holed.tries[0].missing == 4
    assert any("4 missing scores" in note for note in holed.notes)


def test_a_ship_survives_that_the_missing_were_failed() -> None:
    tries = ladder([0.88] * 7, n=300)
    assert judge_wall(wall_input(tries)).answer == "SHIP_PROMPT"
    holed = []
    for rung in tries:
        row = rung.scores.copy()
        row[np.flatnonzero(row == 1)[:6]] = np.nan
        holed.append(replace(rung, scores=row))
    assert judge_wall(wall_input(holed)).answer != "SHIP_PROMPT"


def test_when_no_further_try_can_settle_it_the_cases_are_the_answer() -> None:
    """12 clusters: no wall whatever is tried, and a perfect prompt is not shown to reach 95 %."""
    found = judge_wall(wall_input(ladder([0.5, 0.6], n=12), target=0.95))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "No number of further tries" in found.reason
    sealed = judge_wall(wall_input(ladder([0.5, 0.6], n=12), target=0.95, sealed_clusters=300))
    assert sealed.answer == "KEEP_PROMPTING"
    assert "no wall can be declared" in sealed.reason


# ---------------------------------------------------------------- keep prompting


def test_too_few_tries_keep_prompting_and_name_what_is_owed() -> None:
    found = judge_wall(wall_input(ladder(FLAT[:4])))
    assert found.answer == "KEEP_PROMPTING"
    assert "chain-of-thought and optimised" in found.reason
    assert "3 more distinct tries needed" in found.reason
    assert "waive it with a reason" in found.next_step


def test_prompts_that_change_no_reply_are_told_apart_from_those_that_nobody_wrote() -> None:
    families = ["instructions", "few-shot", "chain-of-thought", "optimised"]
    tries = [
        TryScores(name=f"p{k}", family=family, scores=scores(0.5, 200), prompt_digest=f"{k}",
                  replies_digest="the same")
        for k, family in enumerate(["zero-shot", *families])
    ]  # fmt: skip
    found = judge_wall(wall_input(tries, model="app:one"))
    assert found.answer == "KEEP_PROMPTING"
    assert "Still needed" not in found.reason
    assert "Tried, with the very replies of another try: instructions, few-shot" in found.reason
    assert found.next_step.startswith(
        "4 tries gave the very replies of another, so that one more prompt is not the way: see "
        "that app:one is sent what the prompts say, add cases"
    )
    shown = "Shown, never counted: p1 (repeats p0), p2 (repeats p0), p3 (repeats p0) and 1 more."
    assert shown in found.notes
    same_prompt = [replace(t, prompt_digest="0") for t in tries]
    reason = judge_wall(wall_input(same_prompt)).reason
    assert "Still needed, or waived with a reason: instructions" in reason


def test_seven_tries_are_a_wall_for_quick_and_not_for_standard() -> None:
    tries = ladder(FLAT)
    assert judge_wall(wall_input(tries)).answer == "WALL"
    assert judge_wall(wall_input(tries, profile="standard")).answer == "KEEP_PROMPTING"
    twice = ladder(FLAT * 2)
    found = judge_wall(wall_input(twice, profile="standard"))
    assert found.answer == "WALL"
    assert found.horizon == 2


def test_no_try_at_all_keeps_prompting() -> None:
    found = judge_wall(wall_input([]))
    assert found.answer == "KEEP_PROMPTING"
    assert found.best is None
    assert found.tries == ()


def test_repeats_and_partial_runs_are_shown_and_never_counted() -> None:
    tries = ladder(FLAT)
    digests = {"prompt_digest": "same", "decoding_digest": "same"}
    tries[5], tries[6] = replace(tries[5], **digests), replace(tries[6], **digests)
    found = judge_wall(wall_input(tries))
    assert found.answer == "KEEP_PROMPTING"
    assert [rung.is_counted for rung in found.tries] == [True] * 6 + [False]
    partial = replace(ladder(FLAT)[6], is_countable=False, note="partial run")
    again = judge_wall(wall_input([*ladder(FLAT)[:6], partial]))
    assert again.answer == "KEEP_PROMPTING"
    assert any("partial run" in note for note in again.notes)


def test_a_steady_climb_keeps_prompting_and_says_the_pace() -> None:
    found = judge_wall(wall_input(ladder([0.30, 0.36, 0.42, 0.48, 0.54, 0.60, 0.66])))
    assert found.answer == "KEEP_PROMPTING"
    assert found.is_climbing
    assert "gain about 6 points each; at that pace 3 more may reach the target" in found.reason


def test_when_search_is_the_limit_more_prompts_are_the_answer() -> None:
    found = judge_wall(wall_input(ladder([0.60, 0.75, 0.55, 0.74, 0.58, 0.76, 0.57], n=2000)))
    assert found.answer == "KEEP_PROMPTING"
    assert not found.is_climbing
    assert "the search is the limit" in found.reason


# ---------------------------------------------------------------- ship, fix


def test_a_prompt_shown_good_enough_ships_unconfirmed() -> None:
    found = judge_wall(wall_input(ladder([0.7, 0.95])))
    assert found.answer == "SHIP_PROMPT"
    assert found.best == "p1"
    assert "Unconfirmed" in found.reason


def test_with_a_confirmation_look_only_the_look_decides() -> None:
    tries = ladder([0.7, 0.95])
    good = Confirmation(name="p1", scores=scores(0.95, 100), alpha=0.04)
    confirmed = judge_wall(wall_input(tries, confirmation=good))
    assert confirmed.answer == "SHIP_PROMPT"
    assert "never tuned on" in confirmed.reason
    assert "96 % sure" in confirmed.reason
    poor = replace(good, scores=scores(0.82, 100))
    assert judge_wall(wall_input(tries, confirmation=poor)).answer != "SHIP_PROMPT"


def test_only_a_likely_winner_is_worth_a_look() -> None:
    assert nominee(wall_input(ladder([0.7, 0.95]))) == "p1"
    assert nominee(wall_input(ladder([0.7, 0.81]))) is None
    assert nominee(wall_input([])) is None


def test_a_prompt_outside_the_budget_does_not_ship() -> None:
    tries = ladder([0.7, 0.95])
    tries[1] = replace(tries[1], is_within_budget=False)
    assert judge_wall(wall_input(tries)).answer != "SHIP_PROMPT"


def test_a_stronger_model_within_budget_ships_and_outside_makes_the_wall_one_of_cost() -> None:
    big = TryScores(name="big", family="instructions", scores=scores(0.95, 200, shift=99))
    within = judge_wall(wall_input(ladder(FLAT), stronger=[big]))
    assert (within.answer, within.best) == ("SHIP_PROMPT", "big")
    outside = judge_wall(wall_input(ladder(FLAT), stronger=[replace(big, is_within_budget=False)]))
    assert outside.answer == "WALL"
    assert "one of cost: big" in outside.reason


def test_a_stronger_model_that_fails_too_is_a_warning() -> None:
    weak = TryScores(name="big", family="instructions", scores=scores(0.55, 200, shift=99))
    found = judge_wall(wall_input(ladder(FLAT), stronger=[weak]))
    assert found.answer == "WALL"
    assert any("look at labels, grader and knowledge" in note for note in found.notes)


def test_another_model_is_told_once_by_the_prompt_that_brings_it_furthest() -> None:
    weak = [
        TryScores(name=f"{prompt}@x:{model}", family="instructions", scores=scores(share, 200))
        for prompt, model, share in [
            ("a", "low", 0.3), ("b", "low", 0.4), ("a", "mixed", 0.3), ("b", "mixed", 0.78),
        ]
    ]  # fmt: skip
    found = judge_wall(wall_input(ladder(FLAT), stronger=weak))
    told = [note for note in found.notes if "stays below the target too" in note]
    assert len(told) == 1
    assert "The model x:low stays" in told[0]
    assert ", with b): look at labels" in told[0]


def test_labels_that_nobody_read_are_not_called_a_broken_grader() -> None:
    found = judge_wall(wall_input(ladder(FLAT), waivers={}))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert found.reason.endswith("neither audited nor waived: a wrong label looks the same.")
    unseen = judge_wall(wall_input(ladder(FLAT), waivers={}, reference_scores=None))
    assert unseen.reason.endswith("a broken grader looks the same.")


def test_references_that_fail_their_own_grader_are_no_wall_but_broken_data() -> None:
    found = judge_wall(wall_input(ladder([0.0] * 7), reference_scores=[0.0] * 200))
    assert found.answer == "FIX_DATA"
    assert "the grader or the references are broken" in found.reason


def test_all_fail_with_references_that_pass_is_a_wall() -> None:
    found = judge_wall(wall_input(ladder([0.0] * 7, n=40)))
    assert found.answer == "WALL"
    assert found.tries[0].estimate.upper == pytest.approx(0.074, abs=0.002)
    assert found.resolution is not None
    assert found.resolution > 0.05  # no two tries differ, and still 40 cases cannot see 1 point


def test_no_positive_control_no_wall() -> None:
    found = judge_wall(wall_input(ladder(FLAT), reference_scores=None))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert holds(found)["positive control"] is None
    assert "`reference`" in found.next_step


def test_labels_neither_audited_nor_waived_no_wall() -> None:
    found = judge_wall(wall_input(ladder(FLAT), waivers={}))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "Audit 30 random cases" in found.next_step


def test_an_audit_that_excludes_the_target_is_fix_data_and_else_no_obstacle() -> None:
    bad = mean_bounds([1.0] * 15 + [0.0] * 15, None)
    found = judge_wall(wall_input(ladder(FLAT), waivers={}, label_ceiling=bad))
    assert found.answer == "FIX_DATA"
    good = mean_bounds([1.0] * 28 + [0.0] * 2, None)
    assert judge_wall(wall_input(ladder(FLAT), waivers={}, label_ceiling=good)).answer == "WALL"


def test_wrong_labels_are_to_be_corrected_even_where_the_target_stays_in_reach() -> None:
    good = mean_bounds([1.0] * 28 + [0.0] * 2, None)
    audit = LabelAudit(judged=30, needed=0, ceiling=good, wrong=("c4", "c9"))
    evidence = wall_input(ladder(FLAT), waivers={}, label_ceiling=good, audit=audit)
    found = judge_wall(evidence)
    assert (found.answer, holds(found)["labels"]) == ("WALL", True)
    said = found.conditions[-1].text
    assert said.endswith("wrong: c4 and c9; correct the 2 wrong labels")
    assert found.next_step.startswith("Correct the 2 wrong labels that the audit found (c4 and c9)")
    assert "Tune (harness tune t)" in found.next_step
    clean = judge_wall(replace(evidence, audit=replace(audit, wrong=())))
    assert "orrect the" not in clean.next_step + clean.conditions[-1].text
    bad = mean_bounds([1.0] * 15 + [0.0] * 15, None)
    broken = judge_wall(replace(evidence, label_ceiling=bad))
    assert broken.answer == "FIX_DATA"
    assert broken.next_step.count("Correct the 2 wrong labels") == 1


def test_a_family_that_the_backend_refuses_is_not_suggested() -> None:
    few = [TryScores(name=f"z{k}", family="instructions", scores=scores(0.5, 200, shift=k))
           for k in range(4)]  # fmt: skip
    waivers = dict.fromkeys(("labels", "few-shot", "chain-of-thought", "optimised"), "why not")
    evidence = wall_input(few, waivers=waivers)
    assert "constrained" in judge_wall(evidence).next_step
    refused = judge_wall(replace(evidence, refused=("constrained",)))
    assert "constrained" not in refused.next_step
    assert "zero-shot" in refused.next_step


def test_a_table_made_elsewhere_is_told_no_command_of_ours() -> None:
    good = [TryScores(name="a", family="instructions", scores=scores(0.99, 200))]
    gaps = [TryScores(name="a", family="zero-shot", scores=[None] * 9 + [1.0] * 91)]
    for tries, here, elsewhere in [
        (good, "harness wall t --confirm", "Confirm a on cases that no prompt was written against"),
        (gaps, "Re-run a: only the missing cases are asked again.", "Re-run a."),
    ]:
        evidence = wall_input(tries, target=0.5, sealed_clusters=30)
        assert here in judge_wall(evidence).next_step
        assert elsewhere in judge_wall(replace(evidence, unseen=("labels",))).next_step


def test_no_look_is_advised_at_sealed_cases_that_could_confirm_nothing() -> None:
    good = [TryScores(name="a", family="instructions", scores=scores(0.99, 200))]
    few, enough = (
        judge_wall(wall_input(good, target=0.8, sealed_clusters=n)).next_step for n in (14, 15)
    )
    assert enough == "Spend one sealed look to confirm a: harness wall t --confirm."
    assert "--confirm" not in few
    assert "test has 14 clusters, 15 are needed before even a perfect prompt is confirmed" in few


def test_an_audit_outranks_a_waiver() -> None:
    bad = mean_bounds([0.0] * 30, None)
    assert judge_wall(wall_input(ladder(FLAT), label_ceiling=bad)).answer == "FIX_DATA"


def test_waived_families_are_printed_with_the_wall() -> None:
    tries = [rung for rung in ladder(FLAT) if rung.family != "chain-of-thought"]
    tries += [TryScores(name="x", family="zero-shot", scores=scores(0.5, 200, shift=50))]
    waivers = {"labels": "generated", "chain-of-thought": "replies are one token"}
    found = judge_wall(wall_input(tries, waivers=waivers))
    assert found.answer == "WALL"
    assert "Not tried, by waiver: chain-of-thought" in found.reason
    assert found.waivers == waivers


# ---------------------------------------------------------------- misuse


def test_what_cannot_be_judged_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="target"):
        judge_wall(wall_input(ladder(FLAT), target=0))
    with pytest.raises(UsageError, match="profile"):
        judge_wall(wall_input(ladder(FLAT), profile="fast"))
    with pytest.raises(UsageError, match="scores lie in"):
        judge_wall(wall_input([replace(ladder(FLAT)[0], scores=[7.0] * 200)]))
    with pytest.raises(UsageError, match="cluster names"):
        judge_wall(wall_input(ladder(FLAT), clusters=["a"]))


@pytest.mark.parametrize("number", range(30))
def test_an_insufficient_answer_names_the_condition_that_fails(number: int) -> None:
    """Random ladders near the target: what is said must be what was measured."""
    rng = np.random.default_rng(number)
    shares = 0.66 + 0.03 * rng.standard_normal(7) + 0.003 * number
    found = judge_wall(wall_input(ladder(np.clip(shares, 0, 1).tolist(), n=80)))
    failing = {name for name, held in holds(found).items() if not held}
    if found.answer == "WALL":
        assert not failing
    if "could only have seen" in found.reason:
        assert "resolution" in failing
        assert "level" not in failing
    if "compatible with both" in found.reason:
        assert "level" in failing
    if "may still be" in found.reason:
        assert "reach" in failing
    if found.answer == "INSUFFICIENT_EVIDENCE":
        assert failing


def test_a_search_that_goes_on_names_the_best_prompt_before_a_new_family() -> None:
    tries = [t for t in ladder([0.5, 0.55, 0.6, 0.65, 0.5, 0.74, 0.72, 0.5]) if t.family]
    found = judge_wall(
        wall_input(
            [replace(t, family="few-shot") if t.family == "constrained" else t for t in tries]
        )
    )
    assert found.answer == "KEEP_PROMPTING"
    assert "against the misses of p5, or one of constrained" in (found.next_step or "")


def test_too_few_sources_are_named_where_cases_alone_would_not_settle_it() -> None:
    found = judge_wall(wall_input(ladder([0.85, 0.8], n=20)))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "before 30 sources are there" in (found.next_step or "")
