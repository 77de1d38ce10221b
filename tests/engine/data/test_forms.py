"""Each form is told from a file as its tool writes it, and means what the tool means."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.core.examples import Example
from harness.engine.data.reading import Reading, open_examples
from harness.engine.data.writing import write_examples
from harness.errors import TaskError, UsageError
from harness.records import Message

USER = {"role": "user", "content": "Is it open?"}
REPLY = {"role": "assistant", "content": "Yes."}
CALL = {"id": "c1", "type": "function", "function": {"name": "hours", "arguments": "{}"}}
ROWS: dict[str, dict[str, Any]] = {
    "cases": {"id": "a", "split": "dev", "inputs": {"q": "Is it open?"}, "reference": "Yes."},
    "columns": {"question": "Is it open?", "answer": "Yes."},
    "openai-chat": {"messages": [{"role": "developer", "content": "Short."}, USER, REPLY]},
    "openai-preference": {
        "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [REPLY],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    },
    "alpaca": {"instruction": "Is it open?", "input": "", "output": "Yes."},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Is it open?"},
            {"from": "gpt", "value": "Yes."},
        ]
    },
    "trl-prompt-completion": {"prompt": [USER], "completion": [REPLY]},
    "trl-preference": {"prompt": "Is it open?", "chosen": "Yes.", "rejected": "No."},
    "trl-kto": {"prompt": "Is it open?", "completion": "Yes.", "label": True},
    "hh-rlhf": {
        "chosen": "\n\nHuman: Is it open?\n\nAssistant: Yes.",
        "rejected": "\n\nHuman: Is it open?\n\nAssistant: No.",
    },
    "openai-evals": {"input": [USER], "ideal": "Yes."},
    "squad": {
        "id": "q1",
        "title": "Shop",
        "context": "Yes. From nine to five.",
        "question": "Is it open?",
        "answers": {"text": ["Yes.", "From nine to five", "Yes."], "answer_start": [0, 5, 0]},
    },
    "promptfoo": {"vars": {"q": "Is it open?"}, "assert": [{"type": "equals", "value": "Yes."}]},
    "inspect": {
        "id": 1,
        "epoch": 1,
        "input": "Is it open?",
        "target": "Yes.",
        "choices": None,
        "messages": [],
        "scores": {},
        "metadata": {"cluster": "shop"},
    },
    "langfuse": {
        "id": "o1",
        "traceId": "t1",
        "type": "GENERATION",
        "name": "chat",
        "model": "m",
        "input": {"messages": [USER], "tools": [{"type": "function"}]},
        "output": REPLY,
    },
    "phoenix": {
        "name": "ChatCompletion",
        "span_kind": "LLM",
        "context.span_id": "s1",
        "context.trace_id": "t1",
        "attributes.llm.input_messages": [
            {"message.role": "user", "message.content": "Is it open?"}
        ],
        "attributes.llm.output_messages": [
            {"message.role": "assistant", "message.content": "Yes."}
        ],
    },
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(*rows: Any, name: str = "x.jsonl", **options: Any) -> tuple[Reading, list[Example]]:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    reading = open_examples(Path(name), **options)
    return reading, list(reading)


@pytest.mark.parametrize("form", ROWS)
def test_a_form_is_told_from_its_rows(form: str) -> None:
    reading, [example] = read(ROWS[form])
    assert (reading.form, reading.bad) == (form, [])
    assert reading.confidence >= (0.6 if form == "columns" else 0.9)
    assert reading.why
    asked = [*map(str, example.inputs.values()), *(m.content for m in example.messages)]
    assert asked[-1] == "Is it open?"
    assert example.reference == "Yes."


def test_otlp_spans_are_read_in_all_three_conventions() -> None:
    def attribute(key: str, value: Any) -> dict[str, Any]:
        return {"key": key, "value": {"stringValue": value}}

    parts = [{"role": "user", "parts": [{"type": "text", "content": "Is it open?"}]}]
    answered = [
        {
            "role": "assistant",
            "finish_reason": "tool_call",
            "parts": [{"type": "tool_call", "id": "c1", "name": "hours", "arguments": {}}],
        }
    ]
    spans = [
        [
            attribute("gen_ai.request.model", "m"),
            attribute(
                "gen_ai.system_instructions", json.dumps([{"type": "text", "content": "Be brief."}])
            ),
            attribute("gen_ai.input.messages", json.dumps(parts)),
            attribute("gen_ai.output.messages", json.dumps(answered)),
        ],
        [
            attribute("gen_ai.prompt.0.role", "user"),
            attribute("gen_ai.prompt.0.content", "Is it open?"),
            attribute("gen_ai.completion.0.content", "Yes."),
        ],
        [
            attribute("llm.input_messages.0.message.role", "user"),
            attribute("llm.input_messages.0.message.content", "Is it open?"),
            attribute("llm.output_messages.0.message.role", "assistant"),
            attribute(
                "llm.output_messages.0.message.tool_calls.0.tool_call.function.name", "hours"
            ),
            attribute(
                "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments", "{}"
            ),
        ],
        [attribute("http.method", "GET")],
        [attribute("gen_ai.request.model", "m")],
    ]
    export = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {"traceId": "t", "spanId": f"s{n}", "attributes": a}
                            for n, a in enumerate(spans)
                        ]
                    }
                ]
            }
        ]
    }
    Path("x.json").write_text(json.dumps(export, indent=1), encoding="utf-8")
    reading = open_examples(Path("x.json"))
    current, older, phoenix = list(reading)
    assert reading.form == "otlp"
    assert reading.skipped == 1
    assert [b.place for b in reading.bad] == ["x.json:1#s4"]
    assert "record content" in reading.bad[0].reason
    assert current.messages[0] == Message(role="system", content="Be brief.")
    assert current.calls == (CALL,)
    assert older.reference == "Yes."
    assert phoenix.calls[0]["function"] == CALL["function"]
    assert {e.cluster for e in (current, older, phoenix)} == {"t"}


def test_promptfoo_yaml_gives_tests_with_their_lines_checks_and_what_has_none() -> None:
    Path("promptfooconfig.yaml").write_text(
        "prompts: ['Answer: {{question}}']\n"
        "providers: [openai:x]\n"
        "defaultTest:\n"
        "  vars: {tone: short}\n"
        "  assert: [{type: is-json}]\n"
        "tests:\n"
        "  - vars: {question: 'Capital of France?'}\n"
        "    assert:\n"
        "      - {type: equals, value: Paris}\n"
        "      - {type: llm-rubric, value: is polite}\n"
        "    metadata: {split: dev, kind: geo}\n"
        "  - vars:\n"
        "      question: [One, Two]\n"
        "    assert: [{type: not-icontains, value: sorry}]\n",
        encoding="utf-8",
    )
    reading = open_examples(Path("promptfooconfig.yaml"))
    first, *both = list(reading)
    assert reading.form == "promptfoo"
    assert first.place == "promptfooconfig.yaml:7"
    assert first.inputs == {"tone": "short", "question": "Capital of France?"}
    assert (first.reference, first.split) == ("Paris", "dev")
    assert first.other["assert"] == [{"type": "llm-rubric", "value": "is polite"}]
    assert [e.inputs["question"] for e in both] == ["One", "Two"]
    assert both[0].other["checks"] == [
        {"name": "json", "arguments": {}},
        {"name": "no.contains", "arguments": {"text": "sorry", "normalise": ["case"]}},
    ]
    written = write_examples(Path("cases.jsonl"), [first, *both], form="cases")
    assert written.lost == {"assert": 1, "metadata": 1}
    again = write_examples(Path("out.yaml"), [first, *both], form="promptfoo")
    assert again.lost == {}
    assert [e.other for e in open_examples(Path("out.yaml"))] == [
        first.other,
        *(e.other for e in both),
    ]


def test_promptfoo_csv_has_its_assertions_in_expected_columns() -> None:
    Path("tests.csv").write_text(
        "question,__expected,__expected2,__description,__metadata:topics[]\n"
        'Capital?,Paris,"contains-any: Par,Pa",easy,"geo,eu"\n'
        "Time: now?,equals: at 12: noon,,,\n",
        encoding="utf-8",
    )
    reading = open_examples(Path("tests.csv"))
    first, second = list(reading)
    assert reading.form == "promptfoo"
    assert (first.reference, second.reference) == ("Paris", "at 12: noon")
    assert first.other["checks"] == [
        {"name": "contains_any", "arguments": {"texts": ["Par", "Pa"]}}
    ]
    assert first.other["metadata"] == {"topics": ["geo", "eu"]}
    assert write_examples(Path("out.csv"), [first, second], form="promptfoo").lost == {}


def test_the_checks_of_promptfoo_are_checks_that_exist() -> None:
    from harness.checks.registry import binding
    from harness.engine.data.forms.promptfoo_asserts import LISTS, SIMPLE

    for kind, (name, argument, more) in SIMPLE.items():
        binding(name, {argument: ["a"] if kind in LISTS else "a", **more})
    binding("json_schema", {"schema": {}})


def test_an_inspect_log_of_either_kind_gives_each_sample_once() -> None:
    samples = [ROWS["inspect"], ROWS["inspect"] | {"epoch": 2}]
    header = {"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}}
    Path("log.json").write_text(json.dumps({**header, "samples": samples}), encoding="utf-8")
    with zipfile.ZipFile("log.eval", "w") as archive:
        archive.writestr("header.json", json.dumps(header))
        for number, sample in enumerate(samples):
            archive.writestr(f"samples/{number}.json", json.dumps(sample))
    for name in ("log.json", "log.eval"):
        reading = open_examples(Path(name))
        [example] = list(reading)
        assert (reading.form, reading.skipped) == ("inspect", 1)
        assert (example.id, example.cluster, example.reference) == ("1", "shop", "Yes.")


def test_columns_are_guessed_said_and_overruled_by_map() -> None:
    row = {
        "id": 7,
        "input": {"nlq": "How many?", "table": "t"},
        "expected": {"op": "COUNT"},
        "metadata": {"group": "g1", "sql": "SELECT"},
    }
    reading, [guessed] = read(row)
    assert (guessed.id, guessed.inputs, guessed.reference) == ("7", row["input"], row["expected"])
    assert (guessed.cluster, guessed.other) == ("g1", {"metadata": {"sql": "SELECT"}})
    assert "reference from 'expected'" in reading.notes[0]
    _, [mapped] = read(row, columns={"metadata.sql": "reference", "input.nlq": "question"})
    assert (mapped.reference, mapped.inputs) == ("SELECT", {"question": "How many?"})


def test_two_answers_of_which_one_was_preferred_are_a_preference() -> None:
    pair = {"a": "Long.", "b": "Short.", "preferred": "b", "votes": 3}
    _, [one, tie] = read(
        {"id": "1", "input": {"q": "x"}, "pair": pair},
        {"id": "2", "input": {"q": "x"}, "pair": pair | {"preferred": "tie"}},
    )
    assert (one.reference, one.rejected, one.other["pair"]) == ("Short.", "Long.", {"votes": 3})
    assert (tie.reference, tie.rejected) == (None, None)


def test_openai_chat_rows_are_refused_under_the_names_of_its_errors() -> None:
    rows = [
        {"messages": "no"},
        {"messages": []},
        {"messages": ["no"]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [USER, REPLY | {"weight": 0}]},
    ]
    reading, [kept] = read(*rows, form="openai-chat")
    assert [row.reason.partition(":")[0] for row in reading.bad] == [
        "missing_messages_list",
        "missing_messages_list",
        "data_type",
        "message_missing_key",
        "unrecognized_role",
        "missing_content",
    ]
    assert kept.other["message_extras"] == {"1": {"weight": 0}}


def test_data_set_folders_and_parquet_are_read_with_their_splits() -> None:
    from datasets import Dataset, DatasetDict

    rows = [{"messages": [USER, REPLY]}, {"messages": [USER, REPLY | {"content": "No."}]}]
    saved = DatasetDict(train=Dataset.from_list(rows), validation=Dataset.from_list(rows[:1]))
    saved.save_to_disk("saved")
    Path("hub/data").mkdir(parents=True)
    saved["train"].to_parquet("hub/data/train-00000-of-00001.parquet")
    for name, splits in (("saved", ["train", "train", "validation"]), ("hub", ["train"] * 2)):
        reading = open_examples(Path(name))
        found = list(reading)
        assert (reading.form, reading.bad) == ("openai-chat", [])
        assert [e.split for e in found] == splits
        assert [e.reference for e in found[:2]] == ["Yes.", "No."]


def test_a_folder_of_json_lines_or_csv_is_one_set_and_places_name_its_files() -> None:
    Path("hub/data").mkdir(parents=True)
    line = json.dumps({"messages": [USER, REPLY]}) + "\n"
    Path("hub/data/train-00000.jsonl").write_text(line * 2)
    with gzip.open("hub/data/test.jsonl.gz", "wt") as packed:
        packed.write(line + "{\n")
    Path("hub/dataset_infos.json").write_text("{}")
    reading = open_examples(Path("hub"))
    assert [(e.split, e.place) for e in reading] == [
        ("test", "hub/data/test.jsonl.gz:1"),
        ("train", "hub/data/train-00000.jsonl:1"),
        ("train", "hub/data/train-00000.jsonl:2"),
    ]
    assert [bad.place for bad in reading.bad] == ["hub/data/test.jsonl.gz:2"]
    assert reading.bytes_read == reading.bytes_total > 0
    Path("tables/dev").mkdir(parents=True)
    Path("tables/dev/a.csv").write_text("question,answer\n1+1?,2\n")
    assert [(e.split, e.reference) for e in open_examples(Path("tables"))] == [("dev", "2")]
    Path("tables/b.jsonl").write_text(line)
    with pytest.raises(TaskError, match=r"tables: .*JSON Lines beside CSV"):
        open_examples(Path("tables"))


def test_a_spreadsheet_keeps_numbers_dates_and_texts_that_look_like_formulas() -> None:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["question", "answer", "when"],
        ["=1+1?", 2, None],
        [None, None, None],
        ["b", 2.5, None],
    ):
        sheet.append(row)
    sheet["A2"].data_type = "s"
    book.save("x.xlsx")
    found = list(open_examples(Path("x.xlsx")))
    assert [(dict(e.inputs), e.reference, e.place) for e in found] == [
        ({"question": "=1+1?", "when": ""}, 2, "x.xlsx:2"),
        ({"question": "b", "when": ""}, 2.5, "x.xlsx:4"),
    ]
    write_examples(Path("y.xlsx"), found, form="columns")
    assert [e.inputs for e in open_examples(Path("y.xlsx"))] == [e.inputs for e in found]


def test_what_cases_need_is_given_and_said() -> None:
    rows = [
        Example(place="a:1", inputs={"q": "x"}, reference="y"),
        Example(place="a:2", id="k", split="validation", inputs={"q": "x"}),
        Example(place="a:3", id="l", split="holdout", inputs={"q": "x"}),
    ]
    written = write_examples(Path("cases.jsonl"), rows, form="cases")
    assert (written.rows, written.refused_count) == (2, 1)
    assert list(written.added) == [
        "an id, `row-N`",
        "the split `train`",
        "the split `dev` for 'validation'",
    ]
    assert "holdout" in written.refused[0].reason


def test_an_unknown_form_and_one_that_is_only_read_name_what_is_known() -> None:
    with pytest.raises(UsageError, match="Did you mean 'alpaca'"):
        write_examples(Path("x.jsonl"), [], form="alpacca")
    with pytest.raises(UsageError, match="otlp is only read"):
        write_examples(Path("x.jsonl"), [], form="otlp")
    with pytest.raises(UsageError, match="no suffix of data"):
        write_examples(Path("x.doc"), [], form="cases")


FALSY = [0, False, [], {}, 0.0]


@pytest.mark.parametrize("value", FALSY, ids=repr)
@pytest.mark.parametrize("form", ["trl-prompt-completion", "trl-preference", "trl-kto"])
def test_zero_false_and_nothing_in_a_list_are_answers(form: str, value: Any) -> None:
    example = Example(
        place="x:1", inputs={"prompt": "How many?"}, reference=value, rejected="9", is_good=True
    )
    write_examples(Path("o.jsonl"), [example], form=form)
    [row] = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    assert (row.get("completion") or row.get("chosen")) == json.dumps(value)


def test_alpaca_asks_one_input_in_its_own_words_as_every_form_does() -> None:
    example = Example(place="x:1", inputs={"message": "Where is it?"}, reference="track")
    written = write_examples(Path("o.jsonl"), [example], form="alpaca")
    row = json.loads(Path("o.jsonl").read_text())
    assert (row["instruction"], row["input"]) == ("Where is it?", "")
    assert written.lost == {"names of inputs": 1}


@pytest.mark.parametrize(("better", "worse"), [("Yes.", ""), ("", "No."), ("a", "a"), (None, "b")])
def test_a_case_file_holds_no_pair_that_a_task_refuses_to_load(better: str, worse: str) -> None:
    from harness.engine.case_rows import read_cases

    pair = Example(place="x:1", inputs={"q": "?"}, reference=better, rejected=worse)
    written = write_examples(Path("c.jsonl"), [pair], form="cases")
    assert any(what.startswith("rejected") for what in written.lost)
    [case] = read_cases(Path("c.jsonl"))
    assert case.rejected is None


def test_the_vars_in_asserts_of_promptfoo_are_put_in_and_the_answer_is_no_input() -> None:
    expected = {"type": "equals", "value": "{{ item.label }}"}
    has_city = {"type": "contains-any", "value": ["in {{city}}", "there"]}
    unknown = {"type": "contains", "value": "{{ city | upper }}"}
    given = {"city": "Bonn", "item": {"text": "Where?", "label": "geo"}}
    _, [example] = read({"vars": given, "assert": [expected, has_city, unknown]})
    assert example.reference == "geo"
    assert example.inputs == {"city": "Bonn", "item": {"text": "Where?"}}
    [check] = example.other["checks"]
    assert check["arguments"] == {"texts": ["in Bonn", "there"]}
    assert example.other["assert"] == [unknown]


@pytest.mark.parametrize("suffix", [".yaml", ".csv", ".jsonl"])
@pytest.mark.parametrize("text", ["use {{ name }}", "{% if a %}", "file://a.txt", "package:a"])
def test_what_promptfoo_would_fill_or_open_is_written_as_plain_text(suffix: str, text: str) -> None:
    check = {"name": "contains", "arguments": {"text": text}}
    example = Example(place="x:1", inputs={"q": "What?"}, reference=text, other={"checks": [check]})
    path = Path(f"o{suffix}")
    assert write_examples(path, [example], form="promptfoo").lost == {}
    assert path.read_text().count("{% raw %}") == 2
    [back] = open_examples(path)
    assert (back.reference, back.other) == (text, example.other)


def test_an_input_that_promptfoo_would_fill_is_refused_and_one_it_would_open_is_not() -> None:
    def one(text: str) -> Example:
        return Example(place="x:1", inputs={"q": text}, reference="a")

    written = write_examples(
        Path("o.yaml"), [one("{{ q }}"), one("file:///etc/hostname")], form="promptfoo"
    )
    assert (written.rows, written.refused_count, written.lost) == (1, 1, {})
    assert "fills as a template" in written.refused[0].reason
    [back] = open_examples(Path("o.yaml"))
    assert back.inputs == {"q": "file:///etc/hostname"}


def test_an_answer_may_be_named_so_and_a_column_ignored_by_every_verb() -> None:
    Path("t.csv").write_text("Nr,Text,Team,meta\n1,a,x,m\n2,b,y,n\n", encoding="utf-8")
    columns = {"Team": "answer", "Nr": "ignore"}
    found = list(open_examples(Path("t.csv"), columns=columns))
    assert [(dict(e.inputs), e.reference, dict(e.other)) for e in found] == [
        ({"Text": "a"}, "x", {"meta": "m"}), ({"Text": "b"}, "y", {"meta": "n"}),
    ]  # fmt: skip
    row = {"a": {"keep": 1, "drop": 2}, "label": "x"}
    Path("t.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    [example] = open_examples(Path("t.jsonl"), columns={"a.drop": "ignore"})
    assert (dict(example.inputs), example.reference) == ({"a": {"keep": 1}}, "x")
