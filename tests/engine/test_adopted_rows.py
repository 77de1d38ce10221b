"""Rows that another program trained on: which of them tell of a held-out case, and which do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engine.adopted_rows import Compared, compare_rows, refuse_leaked
from harness.engine.candidates import resolve_candidate
from harness.errors import TaskError
from tests.engine.small import PLAIN, Workshop

Make = Callable[..., Workshop]
TOPICS = (
    "bridges", "violins", "glaciers", "invoices", "orchids", "turbines",
    "sonnets", "harbours", "comets", "kilns", "ferries", "looms",
)  # fmt: skip
LEAD = "You are a careful clerk. Answer the question below in one line and add nothing to it.\n"


def question(number: int) -> str:
    return f"how many {TOPICS[number]} were counted in district {number} during spring"


def held(**more: Any) -> list[dict[str, Any]]:
    """Six cases of dev, and train cases of other questions."""
    splits = ["dev"] * 6 + ["train"] * 6
    return [
        {"id": f"c{n}", "split": s, "inputs": {"n": question(n)} | more, "reference": "x"}
        for n, s in enumerate(splits)
    ]


def turns(text: str) -> dict[str, Any]:
    said = [("system", LEAD), ("user", text), ("assistant", "12")]
    return {"messages": [{"role": r, "content": c} for r, c in said]}


def compared(
    workshop: Workshop, rows: list[dict[str, Any]], *, prompt: str | None = None
) -> Compared:
    path = workshop.folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    candidate = live = None
    if prompt:
        candidate = resolve_candidate(workshop.task, prompt, artifact_digest=str)
        live = workshop.pool.get(candidate)
    return compare_rows(workshop.task, path, candidate=candidate, live=live)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (turns(question(2)), "the same input"),
        (turns(f"{LEAD}Question: {question(2)}?\nAnswer:"), "the same input"),
        (turns(f"Question: {question(2).upper()}."), "the same input in other letters"),
        (turns(f"Question: {question(2)} please"), "near"),
        ({"text": f"### Question:\n{question(2)}\n\n### Answer:\n12"}, "the same input"),
        ({"instruction": LEAD, "input": question(2), "output": "12"}, "the same input"),
        ({"prompt": f"{LEAD}{question(2)}", "completion": "12"}, "the same input"),
    ],
)
def test_a_held_out_question_is_found_in_what_others_trained_on(
    make: Make, row: dict[str, Any], kind: str
) -> None:
    workshop = make(some=held())
    fill = [row | turns(question(n)) if "messages" in row else row | {} for n in (6, 7)]
    if "messages" not in row:
        fill = [json.loads(json.dumps(row).replace(question(2), question(n))) for n in (6, 7)]
    done = compared(workshop, [*fill, row])
    [leak] = done.leaks
    assert (done.rows, leak.kind, leak.other.id) == (3, kind, "c2")
    with pytest.raises(TaskError, match=r"rows\.jsonl:3: .*cases\.jsonl:3\b.*trained on them"):
        refuse_leaked(done, workshop.task)


def test_like_words_and_shared_instructions_are_no_leak(make: Make) -> None:
    """The questions differ in two words of nine, and every row begins with the same long text."""
    workshop = make(some=held())
    rows = [turns(f"{LEAD}Question: {question(n)}\nAnswer:") for n in range(6, 12)] * 4
    longer = turns(f"Question: {question(2)} and how many of those were sold before the autumn")
    done = compared(workshop, [*rows, longer], prompt="plain")
    assert (done.rows, done.leaks, done.unknown) == (25, (), "")
    refuse_leaked(done, workshop.task)


def test_a_question_beside_another_passage_is_another_question(make: Make) -> None:
    cases = [
        {**case, "inputs": {"q": question(2), "passage": f"Report {n} of the {TOPICS[n]}."}}
        for n, case in enumerate(held())
    ]
    workshop = make(some=cases)
    (workshop.folder / "prompts/plain.md").write_text(PLAIN.replace("n }}", "q }}"))
    others = [turns(f"Report {n} of the looms.\nQuestion: {question(2)}") for n in range(90, 93)]
    assert compared(workshop, others).leaks == ()
    [leak] = compared(workshop, [turns(f"Report 3 of the invoices.\n{question(2)}")]).leaks
    assert leak.other.id == "c3"


def test_short_inputs_are_told_by_the_prompt_that_was_trained_with(make: Make) -> None:
    """`Double 3.` holds too few words to be searched for in a text: the whole prompt is theirs."""
    workshop = make()
    rows = [turns(f"Double {n}.") for n in (3, 7, 33)]
    assert compared(workshop, rows).leaks == ()
    [leak] = compared(workshop, rows, prompt="plain").leaks
    assert (leak.other.id, leak.kind) == ("c3", "the same input")
    assert leak.text.startswith(f"{workshop.folder / 'rows.jsonl'}:1: the inputs of")


def test_token_ids_are_compared_where_the_base_can_read_them(make: Make) -> None:
    workshop = make()
    requests = [[1, *map(ord, f"Double {n}."), 1] for n in (2, 8)]
    rows: list[dict[str, Any]] = [
        {"input_ids": [*ids, 54, 0], "labels": [*[-100] * len(ids), 54, 0]} for ids in requests
    ]
    [leak] = compared(workshop, rows, prompt="plain").leaks
    assert leak.other.id == "c2"
    blind = compared(workshop, rows)
    assert (blind.rows, blind.leaks) == (0, ())
    assert "only the base on this machine can read" in blind.unknown
    wordy = make(some=held())
    spelt = [1, *map(ord, f"Question: {question(4)}"), 1]
    [leak] = compared(wordy, [{"input_ids": spelt}], prompt="plain").leaks
    assert (leak.other.id, leak.kind) == ("c4", "the same input")


def test_all_that_could_not_be_compared_is_said(make: Make) -> None:
    workshop = make(some=held())
    path = workshop.folder / "rows.jsonl"
    path.write_text(json.dumps(turns(question(8))) + "\n{broken\n")
    pictured = [replace(c, images=("data:image/png;base64,",)) for c in workshop.task.cases[:1]]
    task = replace(workshop.task, cases=(*pictured, *workshop.task.cases[1:]))
    done = compare_rows(task, path, candidate=None, live=None)
    assert done.unknown == (
        "1 of its rows could not be read, and were not compared; "
        "held-out cases with images were not compared"
    )


def test_cases_that_were_exported_and_trained_on_are_found_by_inputs_and_source(
    make: Make, tmp_path: Path
) -> None:
    workshop = make()
    same = {"id": "a", "split": "train", "inputs": {"n": 1}, "reference": "2"}
    source = {"id": "b", "split": "train", "inputs": {"n": 99}, "reference": "2", "cluster": "k4"}
    own = {"id": "c", "split": "train", "inputs": {"n": 9}, "reference": "18", "cluster": "k9"}
    found = compared(workshop, [same, source, own]).leaks
    assert [(x.other.id, x.kind) for x in found] == [
        ("c1", "the same input"),
        ("c4", "the same source"),
    ]
