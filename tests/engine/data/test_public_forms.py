"""Shapes in which well-known public data sets are given away: HH-RLHF's pairs, SQuAD's articles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.examples import Example
from harness.engine.data.reading import Reading, open_examples
from harness.engine.data.writing import write_examples
from harness.errors import UsageError

H, A = "\n\nHuman: ", "\n\nAssistant: "


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(*rows: Any) -> tuple[Reading, list[Example]]:
    Path("x.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    reading = open_examples(Path("x.jsonl"))
    return reading, list(reading)


def test_a_pair_of_dialogues_as_text_has_its_common_prompt_apart() -> None:
    asked = f"{H}Is it open?{A}Yes.{H}Until when?"
    reading, [one] = read({"chosen": f"{asked}{A}Five.\n\nOr six.", "rejected": f"{asked}{A}No."})
    assert (reading.form, reading.confidence) == ("hh-rlhf", 0.98)
    assert [(m.role, m.content) for m in one.messages] == [
        ("user", "Is it open?"),
        ("assistant", "Yes."),
        ("user", "Until when?"),
    ]
    assert (one.reference, one.rejected) == ("Five.\n\nOr six.", "No.")

    write_examples(Path("y.jsonl"), [one], form="trl-preference")
    [again] = list(open_examples(Path("y.jsonl")))
    assert (again.messages, again.reference, again.rejected) == (
        one.messages, one.reference, one.rejected,
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"hh-rlhf is only read.* --to .*trl-preference"):
        write_examples(Path("z.jsonl"), [one], form="hh-rlhf")


def test_pairs_without_a_common_prompt_are_rows_that_cannot_be_read_and_others_stay() -> None:
    good = {"chosen": f"{H}a{A}b", "rejected": f"{H}a{A}c"}
    reading, found = read(
        good,
        {"chosen": f"{H}a{A}b{H}c{A}d", "rejected": f"{H}a{A}x{H}c{A}e"},
        {"chosen": f"{H}a{A}b", "rejected": f"{H}a{A}c{H}d{A}e"},
        {"chosen": f"{H}a{A}b{H}c", "rejected": f"{H}a{A}b"},
        {"chosen": f"{H}a", "rejected": "b"},
        good,
    )
    assert (reading.form, len(found)) == ("hh-rlhf", 2)
    assert [(bad.place, bad.reason) for bad in reading.bad] == [
        (
            "x.jsonl:2",
            (
                "`chosen` and `rejected` differ before their last turn of the assistant: no common "
                "prompt (from turn 2 on)"
            ),
        ),
        ("x.jsonl:3", "user-in-rejected: `rejected` goes on with a turn of the human"),
        ("x.jsonl:4", "`chosen` must end with a turn of the assistant"),
        ("x.jsonl:5", "`chosen` has no turn `Assistant:`"),
    ]


def test_a_worse_turn_of_the_user_is_refused_in_sharegpt_too() -> None:
    said = {"from": "gpt", "value": "b"}
    row = {"conversations": [{"from": "human", "value": "a"}], "chosen": said}
    reading, found = read(
        row | {"rejected": {"from": "gpt", "value": "c"}},
        row | {"rejected": {"from": "human", "value": "c"}},
        row | {"rejected": {"from": "system", "value": "c"}},
    )
    assert (reading.form, [e.rejected for e in found]) == ("sharegpt", ["c"])
    assert [bad.reason for bad in reading.bad] == [
        "user-in-rejected: `rejected` is a turn of the user",
        "`chosen` and `rejected` must be turns of the assistant",
    ]


def test_articles_of_squad_are_questions_with_their_passage_answers_and_source() -> None:
    questions = [
        {"id": "1", "question": "Which region?", "is_impossible": False,
         "answers": [{"text": "Normandy", "answer_start": 31}, {"text": "in Normandy"},
                     {"text": "Normandy"}]},
        {"id": "2", "question": "Which king?", "is_impossible": True, "answers": []},
    ]  # fmt: skip
    article = {"title": "Normans", "paragraphs": [{"context": "Normandy.", "qas": questions}]}
    Path("dev.json").write_text(json.dumps({"version": "v2.0", "data": [article]}))
    reading = open_examples(Path("dev.json"))
    one, two = list(reading)
    assert (reading.form, one.place, one.id, one.cluster) == (
        "squad", "dev.json:1#1", "1", "Normans",
    )  # fmt: skip
    assert one.inputs == {"context": "Normandy.", "question": "Which region?"}
    assert (one.reference, one.other) == ("Normandy", {"also_right": ["in Normandy"]})
    assert (two.reference, two.tags) == (None, ("unanswerable",))
