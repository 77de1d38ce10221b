from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine.candidates import resolve_candidate
from harness.engine.evaluate import Evaluation, TrialId, fetch_all
from harness.engine.fetch import Silence
from harness.engine.requests import Requests
from harness.engine.views import NoReference, eval_case
from harness.errors import TaskError, UsageError
from harness.records import Case, Fault, Score
from tests.engine.small import Letters, Plugin, Row, Workshop, rows, write_rows, write_settings

Make = Callable[..., Workshop]


def trial(candidate: str, case: str, repeat: int = 0) -> TrialId:
    return TrialId(candidate=candidate, case_id=case, repeat=repeat)


def fetched(workshop: Workshop, *names: str, **options: Any) -> Evaluation:
    evaluation = workshop.evaluate(*names, **options)
    fetch_all([(evaluation, evaluation.trial_ids())], store=workshop.store, progress=Silence())
    return evaluation


def texts(evaluation: Evaluation) -> dict[str, str | None]:
    return {t.case_id: o.reply.text if o.reply else None for t, o in evaluation.outcomes.items()}


# ---------------------------------------------------------------- examples


def examples(workshop: Workshop, prompt: str) -> dict[str, list[str]]:
    task = workshop.task
    requests = Requests(task)
    return {c.id: [e.id for e in requests.examples(prompt, c)] for c in task.cases}


def related(**more: Any) -> list[Row]:
    """Rows whose dev cases share clusters with train rows: c0 with c6, c7; c1 with c8."""
    some = rows(dev=4, train=8, test=2)
    for name, cluster in [("c0", "k4"), ("c1", "k6"), ("c5", "k4"), ("c7", "k6")]:
        next(row for row in some if row["id"] == name)["cluster"] = cluster
    return some


@pytest.mark.parametrize("prompt", ["shots", "near"])
def test_no_example_is_of_the_cases_own_cluster(make: Make, prompt: str) -> None:
    """It would show the model a twin of the case that it is asked."""
    workshop = make(some=related())
    clusters = {c.id: c.cluster for c in workshop.task.cases}
    for case, shown in examples(workshop, prompt).items():
        assert len(shown) == 3
        assert clusters[case] not in {clusters[s] for s in shown}


@pytest.mark.parametrize("prompt", ["shots", "near"])
def test_without_a_train_split_examples_are_of_other_clusters_of_dev(
    make: Make, prompt: str
) -> None:
    some = rows(dev=9, train=0, test=3)
    for number, row in enumerate(some):
        row["cluster"] = f"k{number % 4}"
    workshop = make(some=some)
    split = {c.id: c.split for c in workshop.task.cases}
    clusters = {c.id: c.cluster for c in workshop.task.cases}
    for case, shown in examples(workshop, prompt).items():
        assert len(shown) == 3
        assert clusters[case] not in {clusters[s] for s in shown}
        assert {split[s] for s in shown} == {"dev"}, "never a sealed case"


def test_static_examples_are_the_same_for_every_case_that_may_see_them(make: Make) -> None:
    """So that a shared prompt prefix is computed once."""
    found = examples(make(), "shots")
    held_out = {tuple(v) for k, v in found.items() if int(k[1:]) not in range(6, 14)}
    assert len(held_out) == 1


def test_static_examples_hardly_move_when_a_row_is_added(make: Make) -> None:
    before = set(examples(make(), "shots")["c0"])
    after = set(examples(make(some=[*rows(), rows(dev=0, train=1, start=90)[0]]), "shots")["c0"])
    assert len(before & after) >= 2


def test_another_seed_draws_other_examples(make: Make) -> None:
    workshop = make()
    drawn = []
    for seed in (0, 1, 2):
        text = f"+++\nfamily='few-shot'\nshots=3\nseed={seed}\n+++\n@examples\n@user\n{{{{ n }}}}\n"
        (workshop.folder / "prompts/shots.md").write_text(text)
        drawn.append(tuple(examples(workshop, "shots")["c0"]))
    assert len(set(drawn)) > 1


def test_the_nearest_example_stands_last(make: Make) -> None:
    """Next to the question, where models look most."""
    some = rows(dev=1, train=4, test=0)
    for row, text in zip(some, ["red fox", "blue cat", "red dog", "red fox den", "x"], strict=True):
        row["inputs"] = {"n": text}
    assert examples(make(some=some), "near")["c0"][-1] == "c3"


def test_a_case_of_train_is_no_example_of_itself(make: Make) -> None:
    for prompt in ("shots", "near"):
        assert all(case not in shown for case, shown in examples(make(), prompt).items())


def test_more_examples_than_rows_is_told_with_both_numbers(make: Make) -> None:
    workshop = make(some=rows(train=2))
    with pytest.raises(TaskError, match=r"shots\.md:1: asks for 3 examples, and .* has 2 rows"):
        examples(workshop, "shots")


def test_rows_without_a_reference_are_no_examples(make: Make) -> None:
    some = rows(train=4)
    some[7].pop("reference")
    assert all("c7" not in shown for shown in examples(make(some=some), "shots").values())


# ---------------------------------------------------------------- what is asked


def test_each_case_is_asked_once_for_each_candidate(make: Make) -> None:
    workshop = make()
    fetched(workshop, "plain", "terse")
    asked = [r.messages[-1].content for r in workshop.plugin.made[0].asked]
    assert sorted(asked) == sorted([f"Double {n}." for n in range(6)] + [str(n) for n in range(6)])


def test_repeats_are_asked_apart_and_recorded_replies_only_once(make: Make) -> None:
    workshop = make(repeats=3)
    evaluation = fetched(workshop, "plain", "reference")
    assert len(workshop.plugin.made[0].asked) == 18
    assert evaluation.repeats("reference") == 1
    assert len(evaluation.trial_ids()) == 24


def test_a_field_that_the_case_lacks_is_told_with_prompt_case_and_fields(make: Make) -> None:
    workshop = make()
    (workshop.folder / "prompts/plain.md").write_text("@user\nDouble {{ m }}.\n")
    with pytest.raises(TaskError, match=r"plain\.md.*'c0'.*'m' is undefined.* Its fields: n"):
        fetched(workshop, "plain")


def test_what_the_backend_would_ignore_is_refused_before_anything_is_sent(make: Make) -> None:
    workshop = make(decoding={"stop": ["x"]})
    with pytest.raises(UsageError, match="candidate 'plain': letters:small does not honour stop"):
        fetched(workshop, "plain")
    assert workshop.plugin.made[0].asked == []


def test_what_is_recorded_needs_nothing_that_the_backend_lacks_by_now(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an extra is installed on one machine, and the store is read on another."""
    workshop = make(decoding={"stop": ["x"]})
    with monkeypatch.context() as patch:
        patch.setattr(Letters, "honours", frozenset({"stop"}), raising=False)
        first = texts(fetched(workshop, "plain"))
    workshop.pool.close()
    assert texts(fetched(workshop, "plain")) == first
    assert [made.asked for made in workshop.plugin.made[1:]] == [[]]
    with pytest.raises(UsageError, match="does not honour stop"):
        fetched(workshop, "plain", split="train")


def test_a_split_without_cases_is_told_with_those_that_have_some(make: Make) -> None:
    with pytest.raises(UsageError, match=r"no case in split 'test', of .*cases.jsonl: train 8"):
        make(some=rows(test=0)).evaluate("plain", split="test")


def test_some_cases_alone_can_be_asked(make: Make) -> None:
    evaluation = fetched(make(), "plain", only=["c1", "c3", "no such"])
    assert list(texts(evaluation)) == ["c1", "c3"]


# ---------------------------------------------------------------- recorded replies


def test_the_reference_replies_with_the_reference(make: Make) -> None:
    some = rows(dev=3)
    some[1]["reference"] = {"b": "ä", "a": [1, 2]}
    workshop = make(some=some)
    assert texts(fetched(workshop, "reference")) == {
        "c0": "0",
        "c1": '{"b":"ä","a":[1,2]}',
        "c2": "4",
    }
    assert workshop.plugin.made == []


def test_a_case_without_a_reference_is_no_fault_of_the_reference(make: Make) -> None:
    """It is unscored: a positive control that fails for it would call the grader broken."""
    some = rows(dev=2)
    some[1].pop("reference")
    workshop = make(some=some)
    [run] = workshop.run("reference")
    assert [t.fault for t in run.trials] == [None, None]


def replay(folder: Path, *lines: Any) -> str:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    (folder / "people.jsonl").write_text(text)
    return "replay:people.jsonl"


def test_a_file_of_replies_is_a_candidate(make: Make) -> None:
    workshop = make(some=rows(dev=3))
    name = replay(
        workshop.folder,
        {"id": "c0", "reply": "two\u2028lines"},
        "",
        {"id": "c1", "reply": {"sum": 2}, "note": "a value"},
        {"id": "unknown", "reply": "?"},
    )
    evaluation = fetched(workshop, name)
    assert texts(evaluation) == {"c0": "two\u2028lines", "c1": '{"sum":2}', "c2": None}
    fault = evaluation.outcomes[trial(name, "c2")].fault
    assert fault is not None
    assert fault.message == "c2: people.jsonl has no reply for it"
    assert fault.is_missing


def test_a_file_of_replies_is_found_from_where_one_stands_too(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workshop = make(some=rows(dev=1))
    replay(tmp_path, {"id": "c0", "reply": "here"})
    monkeypatch.chdir(tmp_path)
    assert texts(fetched(workshop, "replay:people.jsonl")) == {"c0": "here"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", r"people\.jsonl:2: not JSON"),
        ("[1]", r'people\.jsonl:2: a line is \{"id": \.\.\., "reply": \.\.\.\}'),
        ({"id": "c1"}, r"people\.jsonl:2: a line is"),
        ({"id": "c1", "reply": None}, r"people\.jsonl:2: a line is"),
        ({"id": "c0", "reply": "again"}, r"people\.jsonl:2: a second reply to 'c0'"),
        ('{"id": "c1", "reply": 1' + "0" * 5000 + "}", r"people\.jsonl:2: a number of more than"),
    ],
)
def test_a_broken_line_of_replies_is_told_with_its_line(make: Make, line: Any, says: str) -> None:
    workshop = make()
    name = replay(workshop.folder, {"id": "c0", "reply": "0"}, line)
    with pytest.raises(TaskError, match=says):
        fetched(workshop, name)


def test_a_file_of_replies_that_is_not_there_is_told(make: Make) -> None:
    with pytest.raises(TaskError, match=r"people\.jsonl: no such file"):
        fetched(make(), "replay:people.jsonl")


def test_replies_that_were_edited_are_another_candidate(make: Make) -> None:
    """What a release compared must not change under its name."""
    workshop = make()
    digests = []
    for text in ("0", "1"):
        name = replay(workshop.folder, {"id": "c0", "reply": text})
        digests.append(resolve_candidate(workshop.task, name, artifact_digest=str).digest)
    assert digests[0] != digests[1]


# ---------------------------------------------------------------- runs


def test_a_run_names_what_it_was_made_of(make: Make) -> None:
    workshop = make()
    [run] = workshop.run("plain", split="test")
    task = workshop.task
    assert (run.task, run.split, run.candidate.name) == ("double", "test", "plain")
    assert run.inputs_digest == task.inputs_digest("test")
    assert run.labels_digest == task.labels_digest("test")
    assert run.evals_digest == task.evals_digest
    assert [t.case_id for t in run.trials] == [c.id for c in task.split("test")]
    known = workshop.store.known_replies([t.reply_key or "" for t in run.trials])
    assert len(known) == len(run.trials)


def test_what_was_identified_before_is_not_worked_out_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for the first replies has the time; between two of them nobody has."""
    workshop = make()
    whole = fetched(workshop, "plain").run_without_trials("plain")
    evaluation = fetched(workshop, "plain")
    assert sum(1 for _ in evaluation.identify()) == len(evaluation.cases) + 1
    digests = {c.id: c.digest[:16] for c in evaluation.cases.values()}
    for name in ("digest", "inputs_digest"):
        monkeypatch.setattr(Case, name, property(lambda case: pytest.fail("once more")))
    assert {name: evaluation.case_digest(name) for name in evaluation.cases} == digests
    assert evaluation.run_without_trials("plain") == whole


def test_the_same_replies_and_scores_are_the_same_run(make: Make) -> None:
    workshop = make()
    assert workshop.run("plain")[0].id == workshop.run("plain")[0].id
    assert len(workshop.store.runs()) == 1


def test_a_candidate_that_was_not_scored_has_no_run(make: Make) -> None:
    evaluation = fetched(make(), "plain", "terse")
    scores = {trial("plain", "c0"): [Score(name="right", value=1.0)]}
    [run] = evaluation.runs(scores, faults={}, aggregates={}, is_complete=lambda name: False)
    assert (run.candidate.name, len(run.trials), run.is_complete) == ("plain", 1, False)


def test_a_fault_of_the_backend_stands_before_one_of_the_eval(make: Make) -> None:
    """No reply came, so whatever the eval did with that is no news."""

    def overflow(request: Any) -> str:
        raise KeyError("boom")

    workshop = make(plugin=Plugin(knows=overflow))
    [run] = workshop.run("plain", faults={"c0": Fault(origin="eval", message="right: crashed")})
    faults = [t.fault for t in run.trials if t.fault]
    assert [f.origin for f in faults] == ["backend"] * 6
    assert faults[0].message == "letters:small: KeyError: 'boom'"
    assert [t.reply_key for t in run.trials] == [None] * 6


def test_reading_an_absent_reference_says_so_and_the_rest_of_the_case_is_there() -> None:
    case = eval_case(Case(id="a", inputs={"n": 1}, split="dev", tags=("t",)))
    assert (case.id, case.inputs["n"], case.tags) == ("a", 1, ("t",))
    with pytest.raises(NoReference):
        case.reference  # noqa: B018
    with pytest.raises(NoReference):
        case.reference_text  # noqa: B018


def test_a_setting_that_changes_what_is_sent_asks_anew(make: Make) -> None:
    workshop = make()
    fetched(workshop, "plain")
    fetched(workshop, "plain")
    assert len(workshop.plugin.made[0].asked) == 6
    write_settings(workshop.folder, decoding={"max_tokens": 7})
    fetched(workshop, "plain")
    assert len(workshop.plugin.made[0].asked) == 12
    write_rows(workshop.folder, [r | {"reference": "0"} for r in rows()])
    fetched(workshop, "plain")
    assert len(workshop.plugin.made[0].asked) == 12
