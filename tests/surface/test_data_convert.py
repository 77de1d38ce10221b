"""`harness data convert`, from a folder that is no project."""

from __future__ import annotations

import json
import re
from pathlib import Path

from harness.engine.data.forms.registry import FORMS
from harness.surface.cli.data_convert import convert
from tests.surface.inprocess import Cli, Harness


def test_a_spreadsheet_becomes_cases_and_what_was_guessed_given_and_lost_is_said(
    harness: Harness,
) -> None:
    Path("tickets.csv").write_text(
        "ticket,intent,notes\nWhere is it?,track,ask Ann\nBroken,refund,\n"
    )
    said = harness("data", "convert", "tickets.csv", "cases.jsonl", "--to", "cases")
    assert said.code == 0
    assert "read as columns (60 % sure" in said.out
    assert "reference from 'intent'; inputs from 'ticket'" in said.out
    assert "given to 2 rows: the split `train`" in said.out
    assert "notes: 2 rows" in said.out
    rows = [json.loads(line) for line in Path("cases.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "id": "row-1", "split": "train", "inputs": {"ticket": "Where is it?"}, "reference": "track",
    }  # fmt: skip


def test_a_lossless_conversion_says_so_and_an_existing_file_needs_force(harness: Harness) -> None:
    Path("a.json").write_text('[{"instruction": "Add 1 and 1.", "input": "", "output": "2"}]')
    first = harness("data", "convert", "a.json", "b.parquet", "--to", "alpaca")
    assert "nothing was lost" in first.out
    again = harness("data", "convert", "a.json", "b.parquet", "--to", "alpaca")
    assert (again.code, again.err) == (2, "error: b.parquet exists already: --force replaces it\n")
    assert harness("data", "convert", "a.json", "b.parquet", "--to", "alpaca", "--force").code == 0
    back = harness("data", "convert", "b.parquet", "c.jsonl", "--to", "openai-chat", "--json")
    assert back.json["form"] == "alpaca"
    assert back.json["lost"] == {"names of inputs": 1}


def test_bad_rows_are_shown_with_their_lines_and_stop_everything(harness: Harness) -> None:
    Path("a.jsonl").write_text(
        '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n{"prompt": \x1b]0;x\x07\n'
    )
    said = harness("data", "convert", "a.jsonl", "b.jsonl", "--to", "openai-chat")
    assert said.code == 2
    assert said.err.startswith("error: a.jsonl:2: there is no `completion`")
    assert "\n  a.jsonl:3: not JSON" in said.err
    assert "2 rows could not be read as trl-prompt-completion, so nothing was written" in said.err
    assert not Path("b.jsonl").exists()
    assert "\x1b" not in said.out + said.err
    left = harness("data", "convert", "a.jsonl", "b.jsonl", "--to", "openai-chat", "--skip-bad")
    assert left.code == 0
    assert "2 rows could not be read and were left out" in left.out
    assert Path("b.jsonl").read_text().count("\n") == 1


def test_the_help_names_every_form_on_the_side_on_which_it_is_read_or_written() -> None:
    written, _, read = str(convert.callback.__doc__).partition("read only:")
    for form in FORMS:
        part = read.partition(".")[0] if form.write is None else written
        assert re.search(rf"(?<![\w-]){form.name}(?![\w-])", part), form.name


def test_map_says_what_a_column_is_and_is_checked(harness: Harness) -> None:
    Path("a.csv").write_text("frage;antwort;quelle\nWo?;Dort.;Brief 7\n")
    maps = ["--map", "frage=question", "--map", "antwort=reference", "--map", "quelle=cluster"]
    assert harness("data", "convert", "a.csv", "b.jsonl", "--to", "columns", *maps).code == 0
    assert json.loads(Path("b.jsonl").read_text()) == {
        "question": "Wo?", "reference": "Dort.", "cluster": "Brief 7",
    }  # fmt: skip
    wrong = harness("data", "convert", "a.csv", "c.jsonl", "--to", "columns", "--map", "frage")
    assert (wrong.code, "is not COLUMN=ROLE" in wrong.err) == (2, True)
    typo = harness("data", "convert", "a.csv", "c.jsonl", "--to", "columns", "--map", "frge=input")
    assert (typo.code, "'frge'" in typo.err, "frage" in typo.err) == (2, True, True)


def test_parts_of_a_configuration_that_are_no_tests_are_named(harness: Harness) -> None:
    Path("pf.yaml").write_text(
        "prompts: ['Answer {{q}}']\ntests:\n  - vars: {q: hi}\nscenarios:\n  - tests: []\n"
    )
    said = harness("data", "convert", "pf.yaml", "a.jsonl", "--to", "columns")
    assert "1 row as columns" in said.out
    assert "not read: the configuration's `scenarios`" in said.out
    again = harness("data", "convert", "pf.yaml", "a.jsonl", "--to", "columns", "--force", "--json")
    assert len(again.json["not_read"]) == 2


def test_images_are_put_into_rows_that_others_read_and_their_names_are_not(
    harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "in/pictures").mkdir(parents=True)
    (tmp_path / "in/pictures/a.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    rows = Path("in/rows.jsonl")
    rows.write_text('{"image": "pictures/a.png", "answer": "a cat"}\n')
    arguments = ("--map", "image=images", "--map", "answer=reference", "--json", "--force")
    said = harness("data", "convert", "in/rows.jsonl", "out.jsonl", "--to", "chat", *arguments)
    assert (said.code, said.json["lost"]) == (0, {})
    (part,) = json.loads(Path("out.jsonl").read_text())["messages"][0]["content"]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
    kept = harness("data", "convert", "in/rows.jsonl", "c.jsonl", "--to", "columns", *arguments)
    assert kept.code == 0
    assert json.loads(Path("c.jsonl").read_text())["images"] == ["pictures/a.png"]
    for name, why in (("pictures/b.png", "No such file"), ("../../b.png", "outside the file's")):
        rows.write_text(json.dumps({"image": name, "answer": "a cat"}) + "\n")
        said = harness("data", "convert", "in/rows.jsonl", "out.jsonl", "--to", "chat", *arguments)
        assert (said.code, why in said.err) == (2, True)


def test_a_task_with_images_is_converted_without_the_names_of_its_files(
    harness: Harness, tmp_path: Path
) -> None:
    folder = tmp_path / "evals/cats"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.harness]\n")
    (folder / "secret-cat.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    (folder / "task.toml").write_text(
        'about = "Name it."\nmodel = "constant:x"\ncases = "cases.jsonl"\nimages = ["image"]\n'
        'primary = "all"\ntarget = 0.9\ntarget_reason = "It is a guess."\n'
    )
    case = {"id": "c1", "split": "train", "inputs": {"image": "secret-cat.png", "ask": "What?"}}
    (folder / "cases.jsonl").write_text(json.dumps(case | {"reference": "a cat"}) + "\n")
    (folder / "prompts").mkdir()
    (folder / "eval_cats.py").write_text("def test_any(reply):\n    assert reply.text\n")
    said = harness("data", "convert", "cats", "out.jsonl", "--to", "openai-chat")
    assert said.code == 0, said.err
    [user, reply] = json.loads(Path("out.jsonl").read_text())["messages"]
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert user["content"][0]["text"] == "What?"
    assert reply["content"] == "a cat"
    assert "secret" not in Path("out.jsonl").read_text()


def test_what_an_inspect_log_holds_beside_its_rows_is_told(cli: Cli) -> None:
    sample = {"id": 1, "epoch": 1, "input": "One and one?", "target": "2", "scores": {}}
    log = {"version": 2, "status": "success", "eval": {"task": "t"}, "samples": [sample]}
    (cli.toy.root / "log.json").write_text(json.dumps(log))
    said = cli("data", "convert", "log.json", "out.jsonl", "--to", "openai-chat")
    assert said.code == 0, said.err
    assert "not read: the log's replies and scores (harness wall --scores FILE" in said.out
    assert "nothing was lost" not in said.out
