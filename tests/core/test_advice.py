"""Each of the eight answers, reached by a small Evidence, and the page that tells it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from harness.core.advice import Advice, advise
from harness.core.advice_evidence import Evidence, Measured, Misses, Provision, Reason, Scope
from harness.core.costs import cost_lines, cost_view
from harness.core.memo import main_reasons, memo
from harness.core.pairs import Pair, compare
from harness.core.release import judge_release
from harness.core.usage import Usage
from harness.records import Estimate, WallVerdict


def estimate(mean: float, *, half: float = 0.05) -> Estimate:
    return Estimate(mean=mean, lower=mean - half, upper=mean + half, n=200, clusters=200)


def wall(answer: str = "WALL", **more: Any) -> WallVerdict:
    return WallVerdict(
        task="t", answer=answer, reason=f"because of {answer}.", conditions=(), tries=(),
        target=0.8, mid=0.05, profile="standard", best="terse", **more,
    )  # fmt: skip


def measured(name: str, mean: float) -> Measured:
    return Measured(name=name, run_id=f"{name:x<16}", estimate=estimate(mean))


def blocked() -> Any:
    worse = Pair(name="right", candidate=[0.0] * 60, baseline=[1.0] * 60)
    compared = compare(worse, task="t", split="test", baseline="terse", candidate="tuned")
    return judge_release(compared, primary=worse, look=1)


WALLED = Evidence(task="t", target=0.8, wall=wall(), why_stale=None, training_rows=300)
GAIN = Scope(
    broad="all", scoped="one", evidence="runs a and b", estimate=estimate(0.7), gain=estimate(0.2)
)
MOSTLY_KNOWLEDGE = Misses(
    candidate="terse", run_id="r" * 16, misses=40, kinds={"knowledge": 9, "rules": 2, "format": 1}
)
DEAR = {
    "manual_usd_per_case": 0.5, "volume_per_month": 100.0, "hosting_usd_per_month": 400.0,
    "training_cost_usd": 1200.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "answer", "says", "decides"),
    [
        ({}, "FINE_TUNE", "measured wall", "wall verdict"),
        ({"wall": wall("SHIP_PROMPT")}, "SHIP_PROMPT", "because of", "wall verdict"),
        ({"wall": wall("KEEP_PROMPTING")}, "KEEP_PROMPTING", "because of", "wall verdict"),
        ({"misses": MOSTLY_KNOWLEDGE}, "KEEP_PROMPTING", "9 of 12 tagged misses", "tags"),
        ({"misses": MOSTLY_KNOWLEDGE, "has_rag": True}, "FINE_TUNE", "", "wall verdict"),
        ({"wall": wall("FIX_DATA")}, "FIX_DATA", "because of", "wall verdict"),
        ({"people": measured("replay:p", 0.7)}, "FIX_DATA", "at most 75 %", "run replay:p"),
        ({"training_rows": 0}, "FIX_DATA", "no row to learn from", "the train split"),
        ({"classical": (measured("knn", 0.9),)}, "USE_CLASSICAL", "at least 85 %", "run knn"),
        ({"classical": (measured("knn", 0.82),)}, "FINE_TUNE", "", "wall verdict"),
        ({"scope": GAIN}, "NARROW_SCOPE", "gains 20 points (at least 15", "runs a and b"),
        ({"scope": replace(GAIN, gain=estimate(0.04))}, "FINE_TUNE", "", "wall verdict"),
        ({"scope": GAIN, "facts": {"can_narrow": False}}, "FINE_TUNE", "", "wall verdict"),
        ({"scope": replace(GAIN, gain=None, estimate=estimate(0.9))}, "NARROW_SCOPE",
         "Within 'one' the best prompt reaches", "runs a and b"),
        ({"release": blocked()}, "KEEP_MANUAL", "tried and blocked", "release verdict"),
        ({"facts": DEAR}, "KEEP_MANUAL", "People cost $50.00 a month", "[advise] manual_usd"),
        ({"facts": DEAR | {"manual_usd_per_case": 0.0}}, "KEEP_MANUAL", "People cost $0",
         "[advise] manual_usd"),
        ({"facts": DEAR | {"volume_per_month": 2000.0}}, "FINE_TUNE", "", "wall verdict"),
        ({"wall": None, "why_stale": "No wall."}, "INSUFFICIENT_EVIDENCE", "No wall.", None),
        ({"why_stale": "cases changed"}, "INSUFFICIENT_EVIDENCE", "cases changed", None),
        ({"wall": wall("INSUFFICIENT_EVIDENCE", need_cases=400)}, "INSUFFICIENT_EVIDENCE",
         "because of", "wall verdict"),
    ],
)  # fmt: skip
def test_the_evidence_gives_the_answer_and_names_what_it_rests_on(
    change: dict[str, Any], answer: str, says: str, decides: str | None
) -> None:
    found = advise(replace(WALLED, **change))
    assert found.answer == answer
    assert says in found.summary
    assert all(found.would_change)
    assert found.would_change
    deciding = [r.evidence for r in found.reasons if r.decides]
    if decides is None:
        assert deciding == []
    else:
        assert any(decides in one for one in deciding), deciding
        assert found.reasons[0].decides  # they stand first


def test_every_reason_points_at_evidence_or_at_a_stated_fact() -> None:
    found = advise(replace(WALLED, facts={"bespoke": "House rules.", "volume_per_month": 9000.0}))
    assert all(reason.evidence for reason in found.reasons)
    stated = {r.evidence: r.text for r in found.reasons if r.evidence.startswith("[advise]")}
    assert stated["[advise] bespoke"] == "House rules."
    assert stated["[advise] volume_per_month"] == "volume per month: 9000"


# ---------------------------------------------------------------- costs

PROMPTED = Usage(
    replies=100, input_tokens=1000, output_tokens=100, latency_s=1.0, latency_p95_s=2.0,
    cost_usd=0.5,
)  # fmt: skip
TUNED = Usage(replies=100, input_tokens=100, output_tokens=100, latency_s=0.2, cost_usd=0.1)
STATED = {
    "hosting_usd_per_month": 100.0, "training_cost_usd": 240.0, "volume_per_month": 50_000.0,
}  # fmt: skip


def test_break_even_is_the_fixed_cost_over_what_a_request_saves() -> None:
    view = cost_view(PROMPTED, TUNED, STATED)
    assert view.saving_usd == pytest.approx(0.004)
    assert view.break_even_per_month == pytest.approx(120 / 0.004)
    assert view.payback_months == pytest.approx(240 / (50_000 * 0.004 - 100))
    assert not view.never_pays
    assert view.unknown == ()


def test_a_volume_that_does_not_pay_the_hosting_never_pays() -> None:
    assert cost_view(PROMPTED, TUNED, STATED | {"volume_per_month": 20_000.0}).never_pays
    assert cost_view(TUNED, PROMPTED, STATED).never_pays


def test_what_is_unknown_stays_unknown_and_says_what_to_state() -> None:
    silent = replace(PROMPTED, cost_usd=None)
    view = cost_view(silent, None, {})
    assert view.saving_usd is None
    assert view.break_even_per_month is None
    assert any("usd_per_million_in" in gap for gap in view.unknown)
    assert any("volume_per_month" in gap for gap in view.unknown)
    priced = cost_view(silent, TUNED, {"usd_per_million_in": 4.0, "usd_per_million_out": 10.0})
    assert priced.prompt is not None
    assert priced.prompt.cost_usd == pytest.approx(0.005)
    inside = cost_view(PROMPTED, replace(TUNED, cost_usd=None), {}, is_tuned_inside=True)
    assert inside.saving_usd == pytest.approx(0.005)


def test_a_bill_of_which_nothing_is_known_is_a_sentence() -> None:
    lines = [cost_lines(cost_view(usage, None, {}))[0] for usage in (Usage(replies=9), PROMPTED)]
    unknown, known = lines
    assert unknown == "a request with the best prompt: its tokens, time and cost are unknown"
    assert known.endswith("1.00 s (median, p95 2.00 s); it costs $0.005 (measured)")


# ---------------------------------------------------------------- the page


def page(evidence: Evidence) -> str:
    return memo(advise(evidence), evidence, about="Turn a question into a query.", on="2026-11-22")


def test_the_memo_tells_the_answer_three_reasons_and_what_was_not_measured() -> None:
    evidence = replace(
        WALLED,
        best=measured("terse", 0.62),
        people=measured("replay:p", 0.9),
        costs=cost_view(PROMPTED, TUNED, STATED),
        provisions=(
            Provision(kind="tuning", text="x:y: LoRA", source="https://a", checked="2026-11-22"),
            Provision(kind="outputs", text="outputs of z: yes", source="https://b"),
        ),
        facts=STATED,
    )
    text = page(evidence)
    assert "**Yes. Fine-tune.** (`FINE_TUNE`, 2026-11-22)" in text
    why = text.partition("## Why")[2].partition("\n| measured")[0]
    assert re.findall(r"^(\d)\. ", why, flags=re.MULTILINE) == ["1", "2", "3"]
    assert "terse, 62 % (57 to 67)" in why
    assert "| people: replay:p | 90 % (85 to 95) | 200 |" in text
    assert "break-even at about 30,000 requests a month" in text
    assert "source https://a, read 2026-11-22" in text
    assert "unchecked; https://b).* Not legal".replace("*", "") in text
    titles = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert titles == [
        "Why", "What would change this", "Costs", "Where it can be tuned, and on whose outputs",
        "Also on record", "Not measured, not stated",
    ]  # fmt: skip
    assert "whether the labels are right" in text
    assert len(text.split()) < 700  # a page


def test_the_three_reasons_are_those_that_decide_then_those_with_numbers() -> None:
    reasons = (
        Reason(text="a fact", evidence="[advise] a"),
        Reason(text="no figure", evidence="run a"),
        Reason(text="12 rows", evidence="the train split"),
        Reason(text="decides", evidence="wall verdict", decides=True),
    )
    found = main_reasons(Advice(answer="FINE_TUNE", summary="", reasons=reasons))
    assert [r.text for r in found] == ["decides", "12 rows", "no figure"]


def test_nothing_that_is_told_becomes_markup() -> None:
    nasty = "<script>x</script> [a](http://b) | *c*\n# d"
    text = page(replace(WALLED, task=nasty, facts={"bespoke": nasty}))
    assert "<script>" not in text
    assert "[a](http" not in text
    assert "\n# d" not in text


def test_a_condition_of_the_audit_is_told() -> None:
    labelled = replace(WALLED, labels="30 labels read, 2 wrong: the ceiling is 96 %")
    assert any(r.evidence == "the label audit" for r in advise(labelled).reasons)
    assert not any("labels are right" in gap for gap in advise(labelled).not_measured)


def test_a_wall_that_no_longer_holds_speaks_for_nothing() -> None:
    [now] = [r for r in advise(WALLED).reasons if r.evidence.startswith("wall verdict")]
    stale = advise(replace(WALLED, why_stale="cases changed"))
    [then] = [r for r in stale.reasons if r.evidence.startswith("wall verdict")]
    assert (now.is_for_tuning, then.is_for_tuning) == (True, None)
    assert then.text == f"no longer holds: {now.text}"


@pytest.mark.parametrize("answer", ["KEEP_PROMPTING", "INSUFFICIENT_EVIDENCE", "SHIP_PROMPT"])
def test_a_verdicts_sentence_is_told_once(answer: str) -> None:
    evidence = replace(WALLED, wall=wall(answer))
    found = advise(evidence)
    assert found.summary == f"because of {answer}."
    [reason] = [r for r in found.reasons if r.evidence.startswith("wall verdict")]
    assert reason.text.startswith(f"the verdict on prompting: {answer}.")
    assert memo(found, evidence, about="", on="").count("because of") == 1


def test_a_releases_sentence_is_told_once() -> None:
    found = advise(replace(WALLED, release=blocked()))
    told = [found.summary, *(reason.text for reason in found.reasons)]
    assert sum("right lost 100 points" in text for text in told) == 1
    assert "tuned, on sealed cases: BLOCK." in told
