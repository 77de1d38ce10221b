"""Rows of known forms that hold something else than they should: refused, and never a crash."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.examples import Example
from harness.core.lints.chat import order_problem
from harness.engine.data.answers import as_reference
from harness.engine.data.bringing import bring
from harness.engine.data.forms.turns import answer, asked
from harness.engine.data.linting import Rows, lint
from harness.engine.data.offered import plain_call
from harness.engine.data.reading import open_examples
from harness.engine.data.writing import write_examples
from harness.errors import TaskError, UsageError
from harness.records import Message, Reply

SPAN: dict[str, Any] = {"traceId": "t", "spanId": "s"}


def spans(*values: Any, key: str = "gen_ai.prompt") -> dict[str, Any]:
    told = [SPAN | {"attributes": [{"key": key, "value": value}]} for value in values]
    return {"resourceSpans": [{"scopeSpans": [{"spans": told}]}]}


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": [{"role": ["user"], "content": "q"}]}, "openai-chat"),
        ({"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}, "openai-chat"),
        ({"conversations": [{"from": ["human"], "value": "q"}]}, "sharegpt"),
        ({"conversations": [{"role": {}, "content": "q"}]}, "sharegpt"),
        ({"instruction": "i", "output": "o", "history": 5}, "alpaca"),
        ({"id": "a", "split": ["dev"], "inputs": {"q": 1}}, "cases"),
        ({"id": "a", "split": "dev", "inputs": {"q": 1}, "checks": "passed"}, "cases"),
        ({"id": "a", "split": "dev", "inputs": {"q": 1}, "checks": [{"a": 1}]}, "cases"),
        ({"id": "a", "split": "dev", "inputs": {"q": 1}, "documents": 5}, "cases"),
        (spans({"arrayValue": 3}), "otlp"),
        (spans({"arrayValue": {"values": 3}}), "otlp"),
        (spans({"kvlistValue": {"values": ["x"]}}), "otlp"),
        (SPAN | {"attributes": 7}, "otlp"),
        ({"defaultTest": {"vars": "file://v.yaml"}, "tests": [{"vars": {"q": "a"}}]}, "promptfoo"),
        ({"vars": {"q": "a"}, "assert": [{"type": "assert-set", "assert": ["b"]}]}, "promptfoo"),
        ({"vars": {"q": "a"}, "assert": [{"type": "assert-set", "assert": [{}]}]}, "promptfoo"),
    ],
)
def test_a_row_that_is_not_what_its_form_says_is_refused_with_its_place(
    tmp_path: Path, row: Any, form: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    reading = open_examples(file, form=form)
    assert list(reading) == []
    assert reading.bad_count == 1
    assert reading.bad[0].place.startswith(str(file))


def test_what_else_a_row_may_hold_goes_through(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    pair = {"a": "x", "b": "y", "preferred": ["a"]}
    file.write_text(json.dumps({"question": "q", "answer": "a", "metadata": -1, "pair": pair}))
    written = write_examples(tmp_path / "out.yaml", open_examples(file), form="promptfoo")
    assert (written.rows, written.refused_count) == (1, 0)
    assert "metadata" in written.lost


@pytest.mark.parametrize(
    "check",
    [
        {},
        {"name": "contains", "arguments": -1},
        {"name": "several"},
        {"name": "several", "arguments": {"checks": "x"}},
        {"name": "several", "arguments": {"checks": [{}]}},
        {"name": "several", "arguments": {"checks": [{"name": "equals", "arguments": [1]}]}},
        {"name": "latency", "arguments": {"at_most_s": "x"}},
        {"name": "cost", "arguments": {"at_most_usd": 10**400}},
    ],
)
def test_a_check_that_is_none_is_told_as_lost(tmp_path: Path, check: Any) -> None:
    given = [Example(place="p", inputs={"q": "x"}, other={"checks": [check]})]
    written = write_examples(tmp_path / "out.jsonl", given, form="promptfoo")
    assert dict(written.lost) == {"checks": 1}


def test_an_assert_whose_bound_no_program_holds_is_no_check(tmp_path: Path) -> None:
    file = tmp_path / "tests.jsonl"
    bound = {"type": "cost", "threshold": 10**400}
    file.write_text(json.dumps({"vars": {"q": "a"}, "assert": [bound]}))
    (found,) = open_examples(file)
    assert found.other == {"assert": [bound]}


# ---------------------------------------------------------------- the order of turns


def alpaca(tmp_path: Path, **more: Any) -> Example:
    file = tmp_path / "rows.jsonl"
    row = {"instruction": "And of Spain?", "input": "", "output": "Madrid", **more}
    file.write_text(json.dumps(row))
    return next(iter(open_examples(file)))


def test_the_instruction_of_alpaca_follows_its_history(tmp_path: Path) -> None:
    given = alpaca(tmp_path, system="Be brief.", history=[["Of France?", "Paris"]])
    said = [(m.role, m.content) for m in (*asked(given), *answer(given))]
    assert said == [
        ("system", "Be brief."),
        ("user", "Of France?"),
        ("assistant", "Paris"),
        ("user", "And of Spain?"),
        ("assistant", "Madrid"),
    ]
    chat, back = tmp_path / "chat.jsonl", tmp_path / "back.jsonl"
    write_examples(chat, [given], form="openai-chat")
    write_examples(back, open_examples(chat), form="alpaca")
    row = json.loads(back.read_text())
    assert (row["instruction"], row["history"]) == ("And of Spain?", [["Of France?", "Paris"]])


def test_inputs_stand_before_turns_that_wait_for_an_answer() -> None:
    turns = (Message(role="user", content="hello"),)
    given = Example(place="p", inputs={"tone": "kind"}, messages=turns)
    assert [m.content for m in asked(given)] == ["tone: kind", "hello"]


def test_a_system_text_changes_no_question(tmp_path: Path) -> None:
    plain, told = alpaca(tmp_path), alpaca(tmp_path, system="Be brief.")
    assert asked(plain)[-1] == asked(told)[-1] == Message(role="user", content="And of Spain?")


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx", ".parquet"])
@pytest.mark.parametrize("text", ["one\rtwo", "\r", "one\r\ntwo", 'a "b"\r,c'])
def test_a_carriage_return_is_read_back_from_the_file(
    tmp_path: Path, text: str, suffix: str
) -> None:
    given = [Example(place="p", inputs={"q": t}, reference="r") for t in (text, "x")]
    written = write_examples(tmp_path / f"rows{suffix}", given, form="columns")
    assert not written.lost
    assert [e.inputs["q"] for e in open_examples(written.path)] == [text, "x"]


@pytest.mark.parametrize("text", ["a\x85b", "\u2028", "a\u2029 b\x85\nc"])
def test_line_ends_of_unicode_come_back_from_yaml(tmp_path: Path, text: str) -> None:
    given = [Example(place="p", inputs={"q": text}, reference=text)]
    written = write_examples(tmp_path / "tests.yaml", given, form="promptfoo")
    (back,) = open_examples(written.path)
    assert (back.inputs["q"], back.reference) == (text, text)
    assert not written.lost


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"q": "a\x0bb"}, "'q' has control characters"),
        ({"a\x0bb": "x"}, r"'a\\x0bb' has control characters"),
        ({"q": "a" * 32768}, "'q' has 32768 characters"),
        ({"q": ["a" * 32768]}, "'q' has 32772 characters"),
    ],
)
def test_what_a_spreadsheet_cannot_hold_is_a_refused_row(
    tmp_path: Path, row: Any, reason: str
) -> None:
    good = {"q": "=1+1", "=2": "x"}
    given = [Example(place=f"f:{n}", inputs=one) for n, one in enumerate((good, row))]
    with pytest.raises(UsageError, match=f"f:1: columns cannot hold the row: {reason}"):
        write_examples(tmp_path / "a.xlsx", given, form="columns", allow_refused=False)
    assert not (tmp_path / "a.xlsx").exists()
    written = write_examples(tmp_path / "a.xlsx", given, form="columns")
    assert [dict(e.inputs) for e in open_examples(written.path)] == [good]
    assert (written.refused_count, written.refused[0].place) == (1, "f:1")


def test_a_table_of_vars_alone_is_read_as_tests(tmp_path: Path) -> None:
    given = [Example(place="p", inputs={"q": "x"})]
    written = write_examples(tmp_path / "tests.csv", given, form="promptfoo")
    assert [dict(e.inputs) for e in open_examples(written.path, form="promptfoo")] == [{"q": "x"}]


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet", ".jsonl", ".dataset"])
def test_inputs_stay_inputs_where_no_row_has_an_answer(tmp_path: Path, suffix: str) -> None:
    inputs = {"output": "x", "group": "y", "q": "z"}
    given = [Example(place=f"f:{n}", inputs=inputs) for n in range(2)]
    written = write_examples(tmp_path / f"rows{suffix}", given, form="columns")
    assert not written.lost
    found = list(open_examples(written.path))
    assert [(dict(e.inputs), e.reference, e.cluster) for e in found] == [(inputs, None, "")] * 2


def test_a_zero_byte_is_refused_by_a_table_of_text(tmp_path: Path) -> None:
    given = [Example(place="p", inputs={"q": "a\x00b"}, reference="r")]
    with pytest.raises(UsageError, match="zero byte"):
        write_examples(tmp_path / "rows.csv", given, form="columns", allow_refused=False)


def test_a_header_in_another_encoding_is_told_and_no_row_is_taken_for_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes("Größe,answer\n1,a\n2,b\n".encode("latin-1"))
    with pytest.raises(TaskError, match=r"rows.csv:1: byte 3 of line 1, 0xf6, is not UTF-8"):
        list(open_examples(file))


def test_cases_are_not_written_as_a_table(tmp_path: Path) -> None:
    given = [Example(place="p", id="a", inputs={"q": "x"}, split="dev")]
    with pytest.raises(UsageError, match="--to columns"):
        write_examples(tmp_path / "rows.csv", given, form="cases")


def log_of(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"eval": {"task": "t", "model": "m"}}))
        sample = {"id": 1, "epoch": 1, "input": "q", "target": "t"}
        archive.writestr("samples/1_epoch_1.json", json.dumps(sample))


@pytest.mark.parametrize("suffix", [".xlsx", ".eval"])
def test_a_damaged_zip_file_is_refused_or_read_as_it_was_wherever_the_damage_is(
    tmp_path: Path, suffix: str
) -> None:
    whole, file = tmp_path / f"whole{suffix}", tmp_path / f"rows{suffix}"
    if suffix == ".xlsx":
        write_examples(whole, [Example(place="p", inputs={"q": "x"})], form="columns")
    else:
        log_of(whole)
    raw = whole.read_bytes()
    [good] = open_examples(whole)
    refused = 0
    for at in range(0, len(raw), 29 if suffix == ".xlsx" else 1):
        for new in (bytes([raw[at] ^ 0xFF]), b""):
            file.write_bytes(raw[:at] + new + raw[at + 1 :])
            try:
                found = [(e.inputs, e.reference) for e in open_examples(file)]
            except (TaskError, UsageError):
                refused += 1
            else:  # a byte that says nothing of the rows, as a date
                assert found == [(good.inputs, good.reference)]
    assert refused > 50


# ---------------------------------------------------------------- a new task


Make = Callable[..., Example]


def row(number: int, **more: Any) -> Example:
    return Example(place=f"f:{number}", **{"inputs": {"q": f"question {number}"}, **more})


def test_rows_with_other_checks_are_no_repeats() -> None:
    def contains(text: str) -> dict[str, Any]:
        return {"checks": [{"name": "contains", "arguments": {"text": text}}]}

    same = {"inputs": {"q": "Say hello"}}
    given = [row(1, **same, other=contains("hello")), row(2, **same, other=contains("world"))]
    found = bring([*given, given[0]], origin="f", folder=Path(), home=Path())
    assert [r["checks"][0]["arguments"]["text"] for r in found.rows] == ["hello", "world"]
    assert found.joined == 1


@pytest.mark.parametrize(
    "checks", ["passed", {"a": 1}, [{"passed": True}], [{"name": "spelling", "passed": True}]]
)
def test_a_key_of_others_that_is_called_checks_is_no_check(tmp_path: Path, checks: Any) -> None:
    given = [row(n, reference=f"r{n}", other={"checks": checks}) for n in range(3)]
    found = bring(given, origin="f", folder=Path(), home=Path())
    assert not any("checks" in r for r in found.rows)
    assert found.dropped["rows' `checks`"] == 3
    written = write_examples(tmp_path / "cases.jsonl", given, form="cases")
    assert (written.rows, written.lost["checks"]) == (3, 3)


def test_answers_that_are_nearly_json_stay_text() -> None:
    for text in ('{"x": NaN}', '{"x": 1, "x": 2}', '{"x": 1e999}'):
        given = [row(1, reference=text), row(2, reference='{"x": 3}')]
        found = bring(given, origin="f", folder=Path(), home=Path())
        assert [r["reference"] for r in found.rows] == [text, '{"x": 3}']


def test_arguments_of_a_call_that_are_nearly_json_stay_text() -> None:
    call = {"function": {"name": "f", "arguments": '{"x": NaN}'}}
    assert plain_call(call) == {"name": "f", "arguments": '{"x": NaN}'}


def test_a_tool_whose_parameters_are_no_schema_is_no_crash() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": 0}}
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    given = [row(1, tools=(tool,), calls=(call,))]
    assert lint([Rows(name="rows", open=lambda: given)]).rows == 1


def test_a_reply_that_is_no_json_is_a_text_as_a_reference() -> None:
    for text in ("[" * 5000, '{"x": NaN}'):
        assert as_reference(Reply(text=text), like={"x": 1}) == text


def test_a_dialogue_that_the_inputs_go_on_with_is_in_order(tmp_path: Path) -> None:
    given = alpaca(tmp_path, history=[["Of France?", "Paris"]])
    assert order_problem(given.messages, is_answered=True)
    found = lint([Rows(name="rows", open=lambda: [given])])
    assert "role-order" not in {f.rule for f in found.findings}
