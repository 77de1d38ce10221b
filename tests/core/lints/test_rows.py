"""What rules say of single rows, and that clean rows of every shape raise no alarm."""

from __future__ import annotations

import random
from dataclasses import replace

from harness.core.examples import Example
from harness.core.lints import Measure
from harness.core.lints.chat import ChatLint
from harness.records import Message
from tests.core.lints.planted import clean_rows, named, rules_of, run
from tests.engine.data.plants.preferences import pairs


def user(text: str) -> Message:
    return Message(role="user", content=text)


def chat(number: int, *messages: Message, **more: object) -> Example:
    fields: dict[str, object] = {"reference": f"answer {number}", **more}
    return Example(place=f"chat.jsonl:{number}", id=f"m{number}", messages=messages, **fields)  # type: ignore[arg-type]


def test_clean_rows_of_every_shape_raise_no_alarm() -> None:
    table = clean_rows(400)
    dialogues = [
        chat(i, Message(role="system", content="Be brief."), user(str(row.inputs["text"])))
        for i, row in enumerate(clean_rows(400, seed=5))
    ]
    assert run(table) == []
    assert run(dialogues) == []
    assert run(pairs(100)) == []


def test_openai_s_seven_errors_are_named_as_openai_names_them() -> None:
    lint = ChatLint()
    reasons = [
        "data_type: messages[0] must be an object, not text",
        "missing_messages_list: `messages` must be a list of messages",
        "message_missing_key: messages[0] has no `role`",
        "unrecognized_role: messages[0] has the role 'narrator'",
        "missing_content: the `content` of messages[1] is null",
        "not JSON: a comma is missing",
    ]
    for line, reason in enumerate(reasons, start=1):
        lint.refuse(f"f:{line}", reason)
    rows = [
        chat(1, user("hello"), other={"message_extras": {"0": {"mood": "good", "name": "Ann"}}}),
        chat(2, user("hello"), reference=None),
        chat(3, user("hello there")),
    ]
    found = {f.rule: [p.id or p.place for p in f.rows] for f in run(rows, [lint])}
    assert found == {
        "data_type": ["f:1"],
        "missing_messages_list": ["f:2"],
        "message_missing_key": ["f:3"],
        "unrecognized_role": ["f:4"],
        "missing_content": ["f:5"],
        "unreadable": ["f:6"],
        "message_unrecognized_key": ["m1"],
        "example_missing_assistant_message": ["m2"],
    }


def test_rows_beyond_the_context_are_errors_and_are_counted_in_tokens() -> None:
    rows = clean_rows(40)
    rows[3] = replace(rows[3], reference="word " * 400)
    measure = Measure(
        model="local:tiny",
        tokens=lambda e: (len(str(e.inputs["text"]).split()), len(str(e.reference).split())),
        context=300,
    )
    [finding] = [f for f in run(rows, measure=measure) if f.rule == "too-long"]
    assert [p.id for p in finding.rows] == [rows[3].id]
    assert "local:tiny holds (300)" in finding.message


def test_labels_that_train_never_shows_are_told_with_rare_and_twice_written_ones() -> None:
    rng = random.Random(3)
    rows = [
        replace(row, reference=rng.choice(["refund", "address", "other"]), split="train")
        for row in clean_rows(300)
    ]
    assert rules_of(run(rows)) == set()
    rows[0] = replace(rows[0], split="test", reference="complaint")
    rows[1] = replace(rows[1], reference="Refund")
    findings = run(rows)
    assert named(findings, "unseen-class") == {rows[0].id}
    assert rules_of(findings) == {"unseen-class", "class-spelling", "rare-class"}


def test_a_label_of_nine_rows_in_ten_is_told() -> None:
    rows = [replace(r, reference="no" if i % 20 else "yes") for i, r in enumerate(clean_rows(200))]
    [finding] = run(rows)
    assert finding.rule == "class-balance"
    assert "95 %" in finding.message


def test_strange_words_are_told_by_shape_list_and_pieces() -> None:
    rows = [
        replace(row, inputs={"text": f"{row.inputs['text']} PKTS qzorp"}) if i % 5 == 0 else row
        for i, row in enumerate(clean_rows(200))
    ]
    findings = run(rows, words={"the", "near", "and", "before", "clock"}, pieces=len)
    by_rule = {f.rule: f.message for f in findings}
    assert set(by_rule) == {"abbreviation", "unknown-word", "fragmented-word"}
    assert by_rule["abbreviation"] == "1 word without a vowel, 40 uses: pkts"
    assert any(p.detail == "qzorp: 40 rows" for f in findings for p in f.rows)
    assert run(clean_rows(200)) == []
