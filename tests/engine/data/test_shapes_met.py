"""Shapes of rows that public data sets have beside what the guides of their forms say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.examples import Example
from harness.engine.data.reading import Reading, open_examples
from harness.engine.data.writing import Written, write_examples
from harness.records import Json, Message

ASKED = {"role": "user", "content": "Is it open?"}
SAID = {"role": "assistant", "content": "Yes."}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(row: Any, **options: Any) -> tuple[Reading, list[Example]]:
    Path("x.jsonl").write_text(f"{json.dumps(row)}\n", encoding="utf-8")
    reading = open_examples(Path("x.jsonl"), **options)
    return reading, list(reading)


def written(example: Example, form: str) -> tuple[Written, Json]:
    done = write_examples(Path("y.jsonl"), [example], form=form, overwrite=True)
    return done, json.loads(Path("y.jsonl").read_text())


def test_the_older_functions_of_openai_are_tools_and_a_call_is_the_answer() -> None:
    ours = {"name": "is_open", "parameters": {"type": "object", "properties": {}}}
    called = {"name": "is_open", "arguments": "{}"}
    calling = {"role": "assistant", "content": None, "function_call": called}
    reading, [one] = read({"messages": [ASKED, calling], "functions": [ours]})
    call = {"id": "call_1", "type": "function", "function": called}
    assert reading.form == "openai-chat"
    assert (one.reference, one.calls) == (None, (call,))
    assert one.tools == ({"type": "function", "function": ours},)
    assert written(one, "columns")[0].lost == {}

    answered = {"role": "function", "name": "is_open", "content": "true"}
    _, [two] = read({"messages": [ASKED, calling, answered, SAID], "functions": [ours]})
    assert [(m.role, m.tool_calls, m.tool_call_id) for m in two.messages] == [
        ("user", (), None),
        ("assistant", (call,), None),
        ("tool", (), "call_1"),
    ]
    assert two.reference == "Yes."


def test_conversations_of_role_and_content_are_sharegpt_too_and_weights_stay() -> None:
    turns = [ASKED, SAID | {"weight": 0}, ASKED, SAID]
    reading, [one] = read({"system": "Be brief.", "conversations": turns})
    assert (reading.form, one.reference) == ("sharegpt", "Yes.")
    assert [m.role for m in one.messages] == ["system", "user", "assistant", "user"]
    _, row = written(one, "openai-chat")
    assert row["messages"][2] == SAID | {"weight": 0}
    plain = [{"from": "human", "value": "Is it open?"}, {"from": "gpt", "value": "Y", "weight": 1}]
    _, [two] = read({"conversations": plain})
    assert written(two, "openai-chat")[1]["messages"][1]["weight"] == 1
    assert written(two, "sharegpt")[0].lost == {"further keys of messages (weight)": 1}


def test_a_table_of_columns_keeps_the_weight_of_the_reply() -> None:
    _, [one] = read({"messages": [ASKED | {"name": "Ann"}, SAID | {"weight": 1}]})
    done, _ = written(one, "columns")
    [back] = list(open_examples(Path("y.jsonl")))
    assert (done.lost, back.other) == ({}, one.other)


def test_a_prompt_as_text_beside_whole_dialogues_is_their_first_turn() -> None:
    chosen, rejected = [ASKED, SAID], [ASKED, SAID | {"content": "No."}]
    row = {"prompt": ASKED["content"], "chosen": chosen, "rejected": rejected, "score": 8.0}
    reading, [one] = read(row)
    assert (reading.form, reading.bad) == ("trl-preference", [])
    assert one.messages == (Message(role="user", content="Is it open?"),)
    assert (one.inputs, one.reference, one.rejected) == ({}, "Yes.", "No.")
    _, [two] = read(row | {"chosen": chosen[1:], "rejected": rejected[1:]})
    assert (two.messages, two.rejected) == (one.messages, "No.")
    refused, none = read(row | {"prompt": "Another question?"})
    assert (none, refused.bad_count) == ([], 1)
    assert "no turn of" in refused.bad[0].reason


def test_rows_that_stand_in_an_item_are_columns_and_the_sample_is_kept() -> None:
    row = {"item": {"question": "1+1?", "label": "2"}, "sample": {"output_text": "3"}}
    reading, [one] = read(row)
    assert "`item`" in reading.why
    assert (one.inputs, one.reference) == ({"question": "1+1?"}, "2")
    assert one.other == {"sample": {"output_text": "3"}}
    _, [two] = read(row, columns={"item.question": "reference", "item.label": "shown"})
    assert (two.inputs, two.reference) == ({"shown": "2"}, "1+1?")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx", ".jsonl"])
def test_the_earlier_turns_of_alpaca_survive_a_table(suffix: str) -> None:
    row = {"instruction": "And now?", "output": "No.", "history": [["Is it open?", "Yes, [all]."]]}
    _, [one] = read(row)
    done = write_examples(Path(f"y{suffix}"), [one], form="alpaca")
    [back] = list(open_examples(Path(f"y{suffix}")))
    assert (done.rows, done.lost, back.messages) == (1, {}, one.messages)
    refused, none = read(row | {"history": [["Is it open?", None]]})
    assert (none, "pairs" in refused.bad[0].reason) == ([], True)


def test_rows_of_one_line_are_told_apart_by_their_number_on_it() -> None:
    Path("x.json").write_text('[{"a": 1, "answer": "b"}, "c", {"a": 2, "answer": "d"},\n{"a": 3}]')
    reading = open_examples(Path("x.json"))
    assert [one.place for one in reading] == ["x.json:1", "x.json:1#3", "x.json:2"]
    assert [bad.place for bad in reading.bad] == ["x.json:1#2"]


@pytest.mark.parametrize("form", ["openai-preference", "trl-preference"])
def test_what_a_worse_reply_calls_is_carried_or_named(form: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    worse = {"role": "assistant", "content": None, "tool_calls": [call]}
    rows = {
        "openai-preference": {"input": {"messages": [ASKED]}, "preferred_output": [SAID],
                              "non_preferred_output": [worse]},
        "trl-preference": {"prompt": [ASKED], "chosen": [SAID], "rejected": [worse]},
    }  # fmt: skip
    _, [one] = read(rows[form])
    assert one.other == {"rejected_calls": [call]}
    for other, wanted in rows.items():
        done, row = written(one, other)
        assert (done.lost, row) == ({}, wanted)
    assert written(one, "sharegpt")[0].lost == {"tool calls of the worse reply": 1}
    assert "tool calls of the worse reply" in written(one, "cases")[0].lost
