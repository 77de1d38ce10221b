from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from harness import BackendConfig
from harness.core.tries import build_tries
from harness.core.wall import judge_wall
from harness.engine.ladder import (
    read_ladder,
    scored_cases,
    try_scores,
    wall_input,
)
from harness.engine.walls import last_wall, wall_entry, why_not_licensed
from harness.errors import NotEnoughEvidence
from harness.records import Fault, Reply, Request, Try, WallVerdict
from tests.engine.small import Letters, Plugin, Workshop, rows, write_rows, write_settings

Make = Callable[..., Workshop]


def tries(workshop: Workshop) -> list[Try]:
    task = workshop.task
    ladder = read_ladder(task, workshop.store)
    kept = [c.cluster for c in scored_cases(task, ladder)]
    return list(build_tries(try_scores(task, ladder), kept))


def notes(workshop: Workshop) -> dict[str, str]:
    return {t.candidate: t.note for t in tries(workshop)}


def write_prompt(workshop: Workshop, name: str, text: str, *, settings: str = "") -> None:
    head = f"+++\n{settings}\n+++\n" if settings else ""
    (workshop.folder / f"prompts/{name}.md").write_text(f"{head}@user\n{text}\n")


def answers(request: Any) -> str:
    """Another wording gets another reply, so that no two prompts are one try by accident."""
    return f"re: {request.messages[-1].content}"


@pytest.fixture
def workshop(make: Make) -> Workshop:
    return make(plugin=Plugin(knows=answers))


# ---------------------------------------------------------------- what counts as a try


def test_complete_runs_of_prompts_on_the_tasks_model_count(workshop: Workshop) -> None:
    workshop.run("plain", "terse")
    assert [(t.candidate, t.is_counted) for t in tries(workshop)] == [
        ("plain", True),
        ("terse", True),
    ]


def test_the_reference_is_no_try_and_stands_on_no_rung(workshop: Workshop) -> None:
    workshop.run("plain", "reference")
    assert list(notes(workshop)) == ["plain"]


def test_a_partial_run_is_shown_and_not_counted(workshop: Workshop) -> None:
    workshop.run("plain", only=["c0", "c1"])
    [only] = tries(workshop)
    assert (only.is_counted, only.note, only.missing) == (False, "partial run", 4)


def test_a_whole_run_takes_the_place_of_a_partial_one_even_when_it_is_older(
    workshop: Workshop,
) -> None:
    workshop.run("plain")
    workshop.run("plain", only=["c0"])
    [only] = tries(workshop)
    assert (only.is_counted, only.missing) == (True, 0)


def test_another_model_is_shown_and_not_counted(workshop: Workshop) -> None:
    workshop.run("plain", "plain@letters:large")
    assert notes(workshop)["plain@letters:large"] == "other model: letters:large"
    counted = [t.candidate for t in tries(workshop) if t.is_counted]
    assert counted == ["plain"]


def test_the_same_prompt_under_two_names_is_one_try(workshop: Workshop) -> None:
    write_prompt(workshop, "again", "Double {{ n }}.")
    workshop.run("plain")
    workshop.run("again")
    assert sum(t.is_counted for t in tries(workshop)) == 1


def test_another_prompt_with_all_the_same_replies_is_one_try(make: Make) -> None:
    workshop = make(plugin=Plugin(knows=lambda request: "0"))
    workshop.run("plain")
    workshop.run("terse")
    assert [(t.is_counted, t.note) for t in tries(workshop)] == [
        (True, ""),
        (False, "repeats plain"),
    ]


def test_an_edited_prompt_is_another_try_and_the_old_one_stays(workshop: Workshop) -> None:
    [first] = workshop.run("plain")
    write_prompt(workshop, "plain", "Twice {{ n }}.")
    workshop.run("plain")
    assert [(t.candidate, t.is_counted) for t in tries(workshop)] == [
        (f"plain (earlier, run {first.id[:8]})", True),
        ("plain", True),
    ]


def test_a_prompt_that_is_gone_is_not_called_as_if_it_were_there(workshop: Workshop) -> None:
    [run] = workshop.run("plain")
    (workshop.folder / "prompts/plain.md").unlink()
    assert [t.candidate for t in tries(workshop)] == [f"plain (earlier, run {run.id[:8]})"]


def test_a_ladder_whose_cases_nobody_could_score_says_so(workshop: Workshop) -> None:
    workshop.run("plain", score=lambda case, reply: None)
    with pytest.raises(NotEnoughEvidence, match="no dev case has the score 'right'"):
        try_scores(workshop.task, read_ladder(workshop.task, workshop.store))


def test_other_decoding_is_another_try(workshop: Workshop) -> None:
    workshop.run("plain")
    write_settings(
        workshop.folder,
        **{
            "candidates.short": {"prompt": "plain"},
            "candidates.short.decoding": {"max_tokens": 1},
        },
    )
    workshop.plugin.knows = lambda request: "!"
    workshop.run("short")
    assert sum(t.is_counted for t in tries(workshop)) >= 1
    assert [t.candidate for t in tries(workshop)] == ["plain", "short"]


def test_runs_over_other_cases_are_not_on_the_ladder(workshop: Workshop) -> None:
    workshop.run("plain")
    write_rows(workshop.folder, rows(dev=7))
    assert tries(workshop) == []


def test_runs_over_test_are_not_on_the_ladder_of_dev(workshop: Workshop) -> None:
    workshop.run("plain", split="test")
    assert tries(workshop) == []
    task = workshop.task
    assert len(read_ladder(task, workshop.store, split="test").runs) == 1


def test_a_case_whose_reply_is_missing_is_none_and_one_that_the_model_failed_is_nought(
    workshop: Workshop,
) -> None:
    lost = Fault(origin="backend", message="refused", is_missing=True)
    failed = Fault(origin="backend", message="overflow")
    workshop.run("plain", faults={"c0": lost, "c1": failed})
    [scores] = try_scores(workshop.task, read_ladder(workshop.task, workshop.store))
    assert list(scores.scores)[:2] == [None, 0.0]
    assert scores.faults == 2


def test_repeats_reach_the_wall_each_by_itself(make: Make) -> None:
    """Their mean decides; the ceiling of all prompts needs them apart."""
    workshop = make(plugin=Plugin(knows=answers), repeats=2)
    calls: dict[str, int] = {}

    def every_other(case: Any, reply: Any) -> float:
        calls[case.id] = calls.get(case.id, 0) + 1
        return float(case.id != "c0" and calls[case.id] % 2)

    workshop.run("plain", score=every_other)
    evidence = wall_input(workshop.task, read_ladder(workshop.task, workshop.store))
    [rung] = evidence.tries
    assert list(rung.scores) == [0.0, *[0.5] * 5]
    assert rung.repeats is not None
    assert [sorted(row) for row in rung.repeats] == [[0.0, 0.0], *[[0.0, 1.0]] * 5]
    said = judge_wall(evidence).notes
    # one try: chosen on one repeat and scored on the other, it is its own mean
    assert any("41.7 % to 41.7 % (cross-fit over 2 repeats" in note for note in said)
    assert any("No try solves 1 case of 6 (c0)" in note for note in said)


def test_a_case_that_a_run_could_not_score_is_left_out_for_all(workshop: Workshop) -> None:
    workshop.run("plain", score=lambda case, reply: None if case.id == "c2" else 1.0)
    workshop.run("terse", score=lambda case, reply: 1.0)
    task = workshop.task
    ladder = read_ladder(task, workshop.store)
    assert "c2" not in {c.id for c in scored_cases(task, ladder)}
    assert [len(t.scores) for t in try_scores(task, ladder)] == [5, 5]


def test_an_eval_that_needs_no_reference_keeps_the_cases_without_one(make: Make) -> None:
    """The reference has no reply there, which says nothing of the prompts."""
    some = rows()
    some[0].pop("reference")
    workshop = make(some=some, plugin=Plugin(knows=answers))
    workshop.run("plain", "reference", score=lambda case, reply: 1.0)
    task = workshop.task
    evidence = wall_input(task, read_ladder(task, workshop.store))
    assert len(evidence.tries[0].scores) == 6
    assert evidence.reference_scores == [1.0] * 5


def test_references_that_nobody_measured_are_no_broken_grader(workshop: Workshop) -> None:
    """A judge that was not asked of them is a fault of each, and was told as FIX_DATA once."""
    workshop.run("plain")
    lost = Fault(origin="backend", message="no recorded reply", is_missing=True)
    workshop.run("reference", faults={c.id: lost for c in workshop.task.split("dev")})
    task = workshop.task
    evidence = wall_input(task, read_ladder(task, workshop.store))
    assert evidence.reference_scores is None
    verdict = judge_wall(evidence)
    assert verdict.answer != "FIX_DATA"
    assert any("no reference answer could be measured" in note for note in verdict.notes)


# ---------------------------------------------------------------- order


def test_tries_stand_in_the_order_in_which_they_were_first_made(workshop: Workshop) -> None:
    for name in ("terse", "plain", "shots"):
        workshop.run(name)
    workshop.run("terse", score=lambda case, reply: 1.0)  # a changed eval, say: the same try
    assert [t.candidate for t in tries(workshop)] == ["terse", "plain", "shots"]


# ---------------------------------------------------------------- labels and evals that change


def relabel(workshop: Workshop) -> None:
    some = rows()
    some[0]["reference"] = "zero"
    write_rows(workshop.folder, some)


def test_scores_of_older_labels_are_stale_and_not_read(workshop: Workshop) -> None:
    workshop.run("plain", "terse")
    relabel(workshop)
    ladder = read_ladder(workshop.task, workshop.store)
    assert ladder.runs == ()
    assert [r.candidate for r in ladder.stale] == ["plain", "terse"]


def test_scores_of_older_evals_are_stale(workshop: Workshop) -> None:
    workshop.run("plain")
    (workshop.folder / "eval_double.py").write_text("def test_right(case, reply):\n    assert 1\n")
    assert [r.candidate for r in read_ladder(workshop.task, workshop.store).stale] == ["plain"]


def test_a_partial_run_of_older_labels_is_not_asked_for_again(workshop: Workshop) -> None:
    workshop.run("plain", only=["c0"])
    relabel(workshop)
    assert read_ladder(workshop.task, workshop.store).stale == ()


def test_an_edited_label_keeps_the_tries_and_their_order_and_is_noted(workshop: Workshop) -> None:
    """Editing a label may not buy a fresh ladder, nor lose an old one."""
    for name in ("terse", "plain"):
        workshop.run(name)
    relabel(workshop)
    for name in ("plain", "terse"):
        workshop.run(name)
    ladder = read_ladder(workshop.task, workshop.store)
    assert [t.candidate for t in tries(workshop)] == ["terse", "plain"]
    assert ladder.stale == ()
    evidence = wall_input(workshop.task, ladder)
    assert any("edited once after scores were seen" in note for note in evidence.notes)


def test_labels_edited_before_any_score_was_seen_are_no_edit(workshop: Workshop) -> None:
    relabel(workshop)
    workshop.run("plain")
    assert wall_input(workshop.task, read_ladder(workshop.task, workshop.store)).notes == []


def test_a_try_that_cannot_be_scored_anew_is_named(workshop: Workshop) -> None:
    """Its prompt was edited since, so that nothing can ask its question again."""
    workshop.run("plain")
    write_prompt(workshop, "plain", "Twice {{ n }}.")
    relabel(workshop)
    workshop.run("terse")
    evidence = wall_input(workshop.task, read_ladder(workshop.task, workshop.store))
    assert any("left out" in note and note.endswith(": plain") for note in evidence.notes)


# ---------------------------------------------------------------- the wall's evidence


def test_without_a_try_there_is_no_evidence_and_the_command_is_named(workshop: Workshop) -> None:
    workshop.run("reference")
    workshop.run("plain", only=["c0"])
    with pytest.raises(NotEnoughEvidence, match="`harness ladder double`"):
        wall_input(workshop.task, read_ladder(workshop.task, workshop.store))


def test_the_evidence_holds_what_the_task_promised(make: Make) -> None:
    waivers = {"rag": "No documents here."}
    workshop = make(plugin=Plugin(knows=answers), profile="quick", mid=0.1, waivers=waivers)
    workshop.run("plain", "reference", "plain@letters:large")
    evidence = wall_input(workshop.task, read_ladder(workshop.task, workshop.store))
    assert [t.name for t in evidence.tries] == ["plain"]
    assert [t.name for t in evidence.stronger] == ["plain@letters:large"]
    assert evidence.reference_scores == [1.0] * 6
    assert (evidence.profile, evidence.mid, evidence.target) == ("quick", 0.1, 0.9)
    assert (evidence.model, evidence.sealed_clusters) == ("letters:small", 4)
    assert evidence.waivers == {"rag": "No documents here."}


def test_a_budget_that_a_try_does_not_keep_is_seen(make: Make) -> None:
    """The backend says that each reply took 10 ms."""
    for limit, is_within in [(0.005, False), (0.02, True)]:
        workshop = make(plugin=Plugin(knows=answers), budgets={"p95_latency_s": limit})
        workshop.run("plain")
        [scores] = try_scores(workshop.task, read_ladder(workshop.task, workshop.store))
        assert scores.is_within_budget is is_within


class Priced(Plugin):
    """Each reply costs half a cent."""

    def _make(self, config: BackendConfig) -> Letters:
        class Dear(Letters):
            async def answer(self, request: Request) -> Reply:
                return dataclasses.replace(await super().answer(request), cost_usd=0.005)

        return Dear(config)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_case_that_is_asked_thrice_costs_what_one_answer_costs(make: Make, repeats: int) -> None:
    """As at a release: else a ladder of repeats would break its budget, and hit a wall of cost."""
    for limit, is_within in [(0.004, False), (0.006, True)]:
        workshop = make(plugin=Priced(), budgets={"mean_cost_usd": limit}, repeats=repeats)
        workshop.run("plain")
        [scores] = try_scores(workshop.task, read_ladder(workshop.task, workshop.store))
        assert scores.is_within_budget is is_within


# ---------------------------------------------------------------- the licence to tune


def wall(workshop: Workshop) -> WallVerdict:
    """Return a recorded WALL, as strong evidence would have given it."""
    task = workshop.task
    verdict = judge_wall(wall_input(task, read_ladder(task, workshop.store)))
    verdict = dataclasses.replace(verdict, answer="WALL", reason="for this test")
    workshop.store.record(wall_entry(verdict, at=workshop.at()))
    return verdict


def why_not(workshop: Workshop) -> str | None:
    task = workshop.task
    return why_not_licensed(task, last_wall(task, workshop.store), workshop.store)


def test_a_wall_licenses_until_what_it_rests_on_changes(workshop: Workshop) -> None:
    workshop.run("plain")
    verdict = wall(workshop)
    assert last_wall(workshop.task, workshop.store) == verdict
    assert why_not(workshop) is None
    for change, what in [
        (lambda: relabel(workshop), "references"),
        (lambda: write_rows(workshop.folder, rows(dev=7)), "cases, references"),
        (lambda: write_settings(workshop.folder, target=0.5), "model, goal, target or margins"),
    ]:
        change()
        assert f"the {what} changed since the wall verdict {verdict.id}" in str(why_not(workshop))
        write_rows(workshop.folder, rows())
        write_settings(workshop.folder)
        assert why_not(workshop) is None
    (workshop.folder / "eval_double.py").write_text("def test_right(case, reply):\n    assert 1\n")
    assert "the evals changed" in str(why_not(workshop))


def test_another_model_is_another_wall(workshop: Workshop) -> None:
    """Prompting hit a wall on one model; nothing was tried on the other."""
    workshop.run("plain")
    wall(workshop)
    write_settings(workshop.folder, model="letters:large")
    assert "model" in str(why_not(workshop))


def test_no_verdict_or_another_one_licenses_nothing(workshop: Workshop) -> None:
    assert "there is no wall verdict. Ask for one: `harness wall double`" in str(why_not(workshop))
    workshop.run("plain")
    task = workshop.task
    verdict = judge_wall(wall_input(task, read_ladder(task, workshop.store)))
    workshop.store.record(wall_entry(verdict, at=workshop.at()))
    assert str(why_not(workshop)).startswith(f"the last verdict is {verdict.answer}: ")
