"""`harness data lint` and `harness data split`, on files as people have them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from harness.engine.data.linting import ALL_RULES
from harness.surface import sarif
from harness.surface.lint_lines import report_lines
from harness.surface.lint_tests import lint_tests
from tests.core.lints.planted import clean_rows
from tests.surface.inprocess import Cli

SCHEMA_FILE = "sarif-schema-2.1.0.json"


def plain(n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": e.id, "question": e.inputs["text"], "answer": e.reference}
        for e in clean_rows(n, seed=seed)
    ]


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def chat(text: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": f"ok {text}"}]
    return {"messages": turns, **more}


def test_clean_rows_are_clean_and_faults_are_told_with_line_and_fix(
    cli: Cli, tmp_path: Path
) -> None:
    file = written(tmp_path / "rows.jsonl", plain(60))
    said = cli("data", "lint", str(file))
    guessed = "reference from 'answer'; inputs from 'question' (--map says otherwise)"
    assert (said.code, said.out) == (
        0,
        f"note   rows.jsonl: guessed from names: {guessed}\nrows.jsonl: 60 rows; nothing found\n",
    )
    rows = plain(60)
    rows[4]["answer"] = ""
    rows[7] = rows[6]
    written(file, rows)
    told = cli("data", "lint", str(file), "--json")
    assert told.code == 1
    by_rule = {f["rule"]: f for f in told.json["findings"]}
    assert set(by_rule) == {"empty-answer", "duplicate", "duplicate-id"}
    assert by_rule["empty-answer"]["rows"][0]["place"].endswith("rows.jsonl:5")
    text = cli("data", "lint", str(file)).out.splitlines()
    assert text[0].startswith("error")
    assert sum(line.lstrip().startswith("→") for line in text) == 3
    assert cli("data", "lint", str(file), "--only", "duplicate").code == 0
    assert cli("data", "lint", str(file), "--only", "duplicate", "--strict").code == 1
    assert cli("data", "lint", str(file), "--only", "duplicates").code == 2


def test_chat_rows_that_cannot_be_read_are_counted_under_openai_s_names(
    cli: Cli, tmp_path: Path
) -> None:
    broken = [
        {"messages": [{"role": "narrator", "content": "x"}]},
        {"messages": [{"content": "x"}]},
        {"messages": "no list"},
        {"messages": ["text"]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "only asked"}]},
        chat("a strange key"),
    ]
    broken[-1]["messages"][0]["mood"] = "good"
    texts = [row["question"] for row in plain(60)]
    file = written(tmp_path / "chat.jsonl", [*map(chat, texts), *broken])
    found = cli("data", "lint", str(file), "--json").json
    counts = {f["rule"]: f["count"] for f in found["findings"] if f["severity"] == "error"}
    assert counts == {
        "unrecognized_role": 1,
        "message_missing_key": 1,
        "missing_messages_list": 1,
        "data_type": 1,
        "missing_content": 1,
        "example_missing_assistant_message": 1,
        "message_unrecognized_key": 1,
    }
    assert found["bad"] == 5


def test_more_unreadable_rows_than_are_kept_are_all_counted(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    good = "".join(json.dumps(r) + "\n" for r in plain(100))
    file.write_text(good + "{broken\n" * 250, encoding="utf-8")
    [finding] = cli("data", "lint", str(file), "--json").json["findings"]
    assert (finding["rule"], finding["count"], len(finding["rows"])) == ("unreadable", 250, 100)


def test_leaks_between_files_are_found_and_files_are_splits(cli: Cli, tmp_path: Path) -> None:
    train, test = plain(60), plain(20, seed=1)
    test[3] = {**train[9], "id": "copy"}
    one = written(tmp_path / "my_train.jsonl", train)
    two = written(tmp_path / "my_test.jsonl", test)
    said = cli("data", "lint", str(one), str(two), "--json")
    [finding] = [f for f in said.json["findings"] if f["rule"] == "leak"]
    assert said.code == 1
    assert [p["id"] for p in finding["groups"][0]] == [train[9]["id"], "copy"]


def test_secrets_personal_data_and_languages_are_told_without_repeating_them(
    cli: Cli, tmp_path: Path
) -> None:
    rows = plain(80)
    rows[0]["question"] += " my key is ghp_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC2"
    rows[1]["question"] += " write to ann.miller@shop-mail.net"
    rows[4]["question"] += " write to jo@example.com or ann@shop.example, at 3.141592653"
    rows[2]["answer"] = (
        "Vielen Dank für Ihre Nachricht, wir haben Ihren Fall heute an die zuständige Abteilung "
        "in Hamburg weitergeleitet und melden uns bald."
    )
    file = written(tmp_path / "rows.jsonl", rows)
    said = cli("data", "lint", str(file))
    assert "aB3dE5" not in said.out
    assert "ann.miller" not in said.out
    found = cli("data", "lint", str(file), "--json").json["findings"]
    named = {f["rule"]: [p["id"] for p in f["rows"]] for f in found}
    assert named == {
        "secret": [rows[0]["id"]],
        "pii": [rows[1]["id"]],
        "wrong-language": [rows[2]["id"]],
    }


def test_calls_that_the_offered_tools_do_not_allow_are_errors(cli: Cli, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]

    def row(number: int, name: str, arguments: str) -> dict[str, Any]:
        call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
        turns: list[Any] = [
            {"role": "user", "content": f"question {number} about place {number * 7}"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
        return {"messages": turns, "tools": tools}

    rows = [row(i, "weather", json.dumps({"city": f"town {i}"})) for i in range(30)]
    rows += [
        row(90, "whether", '{"city": "a"}'),
        row(91, "weather", "{}"),
        row(92, "weather", '{"city": "a", "day": 2}'),
        row(93, "weather", '{"city": 5}'),
        row(94, "weather", '{"city'),
    ]
    file = written(tmp_path / "calls.jsonl", rows)
    found = cli("data", "lint", str(file), "--only", "invalid-call", "--json").json["findings"]
    lines = [int(p["place"].rpartition(":")[2]) for p in found[0]["rows"]]
    assert lines == [31, 32, 33, 34, 35]


def test_a_task_s_references_are_asked_of_its_own_evals(cli: Cli) -> None:
    said = cli("data", "lint", "toy", "--json")
    assert said.code in {0, 1}
    assert "fails-own-evals" not in {f["rule"] for f in said.json["findings"]}
    cases = cli.toy.task / "cases.jsonl"
    lines = cases.read_text().splitlines()
    row = json.loads(lines[0])
    row["reference"] = "certainly wrong"
    cases.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    told = cli("data", "lint", "toy", "--json")
    [finding] = [f for f in told.json["findings"] if f["rule"] == "fails-own-evals"]
    assert told.code == 1
    assert [p["id"] for p in finding["rows"]] == [row["id"]]


def test_sarif_is_what_the_standard_s_own_schema_accepts(cli: Cli, tmp_path: Path) -> None:
    schema = json.loads((Path(__file__).parent / "sarif_schema" / SCHEMA_FILE).read_text())
    rows = plain(40)
    rows[3]["answer"] = ""
    rows[5] = {**rows[4], "id": "again \x1b]0;owned\x07 \ud800"}
    file = written(tmp_path / "with space #1 50% ü:2.jsonl", rows)
    file.write_text(file.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    log = tmp_path / "log.sarif"
    assert cli("data", "lint", str(file), "--sarif", str(log)).code == 2
    plain_log = json.loads(log.read_text())
    for text in (SCHEMA_FILE, "errata01"):
        assert text in plain_log["$schema"]
        assert text in schema["id"]
    Draft4Validator(schema).validate(plain_log)
    [one] = plain_log["runs"]
    assert {r["ruleId"] for r in one["results"]} == {"empty-answer", "duplicate", "unreadable"}
    rules = one["tool"]["driver"]["rules"]
    for result in one["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        for location in [*result["locations"], *result.get("relatedLocations", [])]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert uri.endswith("/with%20space%20%231%2050%25%20%C3%BC%3A2.jsonl")
    assert sarif.LEVELS.keys() == {r.severity for r in ALL_RULES}
    empty = sarif.sarif([], rules=ALL_RULES)
    Draft4Validator(schema).validate(empty)
    del empty["runs"][0]["tool"]["driver"]["name"]
    assert not Draft4Validator(schema).is_valid(empty), "a validator that refuses nothing"


def test_what_strangers_wrote_cannot_drive_the_terminal() -> None:
    from harness.core.lints.base import Finding, Place
    from harness.engine.data.linting import Report

    nasty = Place("\x1b]0;owned\x07id", "f\x1b[2J:1", "\x1b[31m")
    finding = Finding(rule="r", severity="error", message="\x1b[1m", fix="f", rows=(nasty,))
    report = Report(name="\x1bn", rows=1, bad=0, findings=(finding,))
    assert "\x1b" not in "\n".join(report_lines(report, most=5))


def test_lints_are_pytest_tests_in_one_line(tmp_path: Path) -> None:
    """The block of docs/lints.md, run."""
    page = (Path(__file__).parents[2] / "docs" / "lints.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    rows = plain(40)
    train = written(tmp_path / "train.jsonl", rows)
    train.write_text(train.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    written(tmp_path / "test.jsonl", [{**rows[6], "id": "copy"}, *plain(9, seed=1)])
    (tmp_path / "test_data.py").write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_data.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_rows[leak]" in done.stdout
    assert "train.jsonl:7" in done.stdout
    assert "test_rows[unreadable]" in done.stdout
    assert "train.jsonl:41" in done.stdout
    assert "2 failed" in done.stdout


def test_how_near_is_a_copy_is_the_tasks_to_say_in_look_and_in_tests_too(cli: Cli) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"c{n}", "split": "train" if n else "dev", "inputs": {"a": plain(9)[n]["question"]}}
        for n in range(9)
    ]
    words = "where is the lamp that I ordered last week from your shop in the old town"
    rows[0]["inputs"], rows[5]["inputs"] = {"a": words}, {"a": f"{words} please"}
    cli.toy.write_cases(rows)
    settings = cli.toy.task / "task.toml"
    said = settings.read_text()
    for near, is_told in ((0.8, True), (1.0, False)):
        settings.write_text(f"near = {near}\n{said}")
        looked = cli("data", "look", "toy", "--order", "near-leak", "--rows", "9")
        assert ("⚑ near-leak" in looked.out) is is_told
        test = lint_tests(cli.toy.task, only=("near-leak",))
        with pytest.raises(pytest.fail.Exception, match="near") if is_told else nullcontext():
            test("near-leak")


def test_split_keeps_groups_together_and_rows_where_they_are_as_the_set_grows(
    cli: Cli, tmp_path: Path
) -> None:
    rows = [{**r, "cluster": f"s{i // 3}"} for i, r in enumerate(plain(90))]
    rows += [{**r, "id": f"n{i}", "question": f"{r['question']} !", "cluster": f"t{i}"}
             for i, r in enumerate(rows[:10])]  # fmt: skip
    file, out = written(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    said = cli("data", "split", str(file), "--to", "cases", "--out", str(out))
    assert said.code == 0, said.err
    first = {c["id"]: c for c in map(json.loads, out.read_text().splitlines())}
    assert Counter(c["split"] for c in first.values())["test"] in range(17, 24)
    by_source: dict[str, set[str]] = {}
    for case in first.values():
        by_source.setdefault(case["cluster"], set()).add(case["split"])
    assert all(len(splits) == 1 for splits in by_source.values())
    assert all(first[f"n{i}"]["split"] == first[rows[i]["id"]]["split"] for i in range(10))

    grown = [*first.values()]
    for i, row in enumerate(plain(30, seed=9)):
        grown.append({"id": f"new{i}", "inputs": {"question": row["question"]},
                      "reference": "x", "cluster": "s0" if i == 0 else f"u{i}"})  # fmt: skip
    more = written(tmp_path / "grown.jsonl", grown)
    again = tmp_path / "again.jsonl"
    said = cli("data", "split", str(more), "--from", "cases", "--out", str(again))
    assert said.code == 0, said.err
    second = {c["id"]: c["split"] for c in map(json.loads, again.read_text().splitlines())}
    assert all(second[name] == case["split"] for name, case in first.items())
    assert second["new0"] == second[rows[0]["id"]]
    assert len(second) == 130


def test_split_refuses_leaks_leaves_out_bridges_and_writes_nothing_by_itself(
    cli: Cli, tmp_path: Path
) -> None:
    base = clean_rows(20)
    cases = [
        {"id": e.id, "split": "train" if i % 2 else "test", "inputs": dict(e.inputs),
         "reference": e.reference, "cluster": f"c{i}"}
        for i, e in enumerate(base)
    ]  # fmt: skip
    bridge = {"id": "bridge", "inputs": cases[0]["inputs"], "reference": "x", "cluster": "c1"}
    file = written(tmp_path / "a.jsonl", [*cases, bridge])
    out = tmp_path / "out.jsonl"
    said = cli("data", "split", str(file), "--from", "cases", "--out", str(out))
    assert said.code == 0, said.err
    assert "left out: bridge" in said.out
    assert len(out.read_text().splitlines()) == 20
    assert cli("data", "split", str(file), "--from", "cases", "--out", str(out)).code == 2

    leaking = [*cases, {**cases[0], "id": "leak", "split": "train", "cluster": "c0"}]
    file = written(tmp_path / "b.jsonl", leaking)
    new = tmp_path / "new.jsonl"
    said = cli("data", "split", str(file), "--out", str(new))
    assert said.code == 1
    assert "LEAK" in said.out
    assert not new.exists()
    assert cli("data", "split", str(file), "--out", str(new), "--all").code == 0
    splits = {c["id"]: c["split"] for c in map(json.loads, new.read_text().splitlines())}
    assert splits["leak"] == splits[cases[0]["id"]]
    assert cli("data", "split", str(file), "--dev", "0.6", "--test", "0.5").code == 2
