"""`harness data synth` and `harness data curate` on the command line, on the small project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.engine.data.synth_setting import Setting, Wish, prepare
from harness.engine.tasks import Task
from harness.surface.cli.data_synth import _with_spaces
from tests.surface.inprocess import Cli
from tests.surface.toy import EVALS, Toy

QUESTION = "+++\nfamily = 'zero-shot'\n+++\n@user\n{{ say }} {{ a }} + {{ b }}\n"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    toy = Toy(tmp_path)
    (toy.task / "prompts/shots.md").unlink()
    (toy.task / "prompts/plain.md").write_text(QUESTION)
    # an eval that scores a half at best would let no row pass
    (toy.task / "eval_toy.py").write_text(EVALS.replace("score(0.5 if", "score(1 if"))
    splits = ["dev"] * 6 + ["train"] * 12 + ["test"] * 6
    says = ("please add these", "what is the sum of", "how much is", "tell me the total of")
    toy.write_cases(
        [
            {
                "id": f"c{i}",
                "split": split,
                "cluster": f"k{i}",
                "inputs": {"say": says[i % 4], "a": i, "b": 2 * i},
                "reference": str(3 * i) if i != 8 else "twenty-four",
            }
            for i, split in enumerate(splits)
        ]
    )
    return Cli(toy, monkeypatch, capsys)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_perturbed_rows_are_written_whole_once_and_split_the_report_by_origin(cli: Cli) -> None:
    out = cli.toy.task / "made.jsonl"
    command = ("data", "synth", "toy", "--by", "perturb", "--kind", "typos", "--for", "dev")
    said = cli(*command, "--rows", "4", "--near", "0", "--out", str(out))
    assert said.code == 0, said.err
    assert "4 rows of 4 passed: typos 4" in said.out
    assert 'cases = ["cases.jsonl", "made.jsonl"]' in said.out
    beside = cli(
        *command, "--rows", "1", "--near", "0", "--out", str(cli.toy.task.parent / "m.jsonl")
    )
    assert 'cases = ["cases.jsonl", "../m.jsonl"]' in beside.out
    assert [r["split"] for r in lines(out)] == ["dev"] * 4
    assert all(r["provenance"]["made_by"] == "perturb" for r in lines(out))  # type: ignore[index]
    again = cli(*command, "--out", str(out))
    assert again.code == 2
    assert "--force" in again.err
    task = cli.toy.task / "task.toml"
    named = task.read_text().replace(
        'cases = "cases.jsonl"', 'cases = ["cases.jsonl", "made.jsonl"]'
    )
    task.write_text(named)
    told = cli("eval", "toy", "--candidate", "plain")
    table = [line.split() for line in told.out.splitlines()]
    assert ["collected", "plain", "6"] in [row[:3] for row in table]
    assert ["synthetic", "plain", "4"] in [row[:3] for row in table]


def test_a_change_of_white_space_can_be_seen() -> None:
    shown = [_with_spaces(text) for text in (" a b", "a  b ", "a\n\tb   c\n", {"k": "a\n b"})]
    assert shown == ["·a b", "a··b·", "a\\n\\tb···c\\n", "{'k': 'a\\n b'}"]


def test_made_rows_are_shown_with_their_white_space(cli: Cli) -> None:
    out = str(cli.toy.task / "made.jsonl")
    said = cli("data", "synth", "toy", "--by", "perturb", "--kind", "whitespace",
               "--rows", "3", "--near", "0", "--out", out)  # fmt: skip
    assert said.code == 0, said.err
    [text, *_] = [str(dict(r["inputs"])["say"]) for r in lines(Path(out))]  # type: ignore[call-overload]
    assert f"    say: {_with_spaces(text)}\n" in said.out
    assert {"·", "\\"} & set(_with_spaces(text))


def test_a_plan_shows_the_first_request_and_sends_nothing(cli: Cli) -> None:
    said = cli("data", "synth", "toy", "--by", "evolve", "--model", "adder:big", "--plan")
    assert said.code == 0, said.err
    assert "asked is adder:big" in said.out
    assert "Write 2 harder rows" in said.out
    assert "whether outputs of adder:big may be training data: unknown here" in said.out
    assert cli.toy.sent == []


def test_a_model_that_breaks_is_infrastructure_and_nothing_is_written(cli: Cli) -> None:
    """The small backend adds the two numbers that it is asked about, and breaks on more."""
    out = cli.toy.root / "made.jsonl"
    said = cli(
        "data", "synth", "toy", "--by", "self-instruct", "--model", "adder:big", "--rows", "2",
        "--out", str(out), "--json",
    )  # fmt: skip
    assert said.code == 4
    assert "no answer came: adder:big: ValueError" in said.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "self-instruct", "--out", "x.jsonl"), "--model SCHEME:MODEL"),
        (("--by", "perturb", "--from", "test", "--out", "x.jsonl"), "is a leak"),
        (("--by", "perturb", "--kind", "deepen", "--out", "x.jsonl"), "--by perturb has"),
        (("--by", "documents", "--model", "adder:x", "--out", "x.jsonl"), "no `documents`"),
        (("--by", "perturb", "--field", "a", "--out", "x.jsonl"), "Inputs with text: say"),
        (("--by", "perturb"), "--out FILE"),
        (("--by", "perturb", "--out", "no/such/x.jsonl"), "no such folder"),
    ],
)
def test_what_cannot_be_made_is_told_with_the_next_step(
    cli: Cli, arguments: tuple[str, ...], words: str
) -> None:
    said = cli("data", "synth", "toy", *arguments)
    assert said.code == 2
    assert words in said.err
    assert not (cli.toy.root / "x.jsonl").exists()


def test_curated_references_and_replies_are_told_and_written(cli: Cli) -> None:
    out = cli.toy.root / "good.jsonl"
    said = cli("data", "curate", "toy", "--out", str(out))
    assert said.code == 0, said.err
    assert "12 rows: 11 kept, 0 healed, 1 dropped" in said.out
    assert "dropped c8" in said.out
    assert "-twenty-four" in said.out
    assert "1 × number" in said.out
    assert "not used as filters: mean_length" in said.out
    assert len(lines(out)) == 11
    cli("eval", "toy", "--split", "train", "--candidate", "plain")
    told = cli("data", "curate", "toy", "--replies", "plain", "--pairs", "--json")
    assert told.code == 0, told.err
    # c8's reference is wrong in words, and the reply is right; those of c6, c9, ... miss
    assert told.json["reasons"]["no missed reply to the case"] == 7
    assert told.json["kept"] == 4
    assert not told.json["out"]


def test_a_file_is_curated_by_the_evals_of_a_task(cli: Cli) -> None:
    path = cli.toy.root / "rows.jsonl"
    given = [
        {"id": f"n{i}", "split": "train", "inputs": {"a": i, "b": i}, "reference": r}
        for i, r in enumerate(["200", "no", "400"], start=100)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in given) + '{"id": 5}\n')
    out = cli.toy.root / "good.jsonl"
    again = ("data", "curate", str(path), "--task", "toy", "--out", str(out))
    assert cli(*again).code == 2
    assert not out.exists()
    said = cli(*again, "--skip-bad")
    assert said.code == 0, said.err
    assert [r["id"] for r in lines(out)] == ["n100", "n102"]
    assert "1 row could not be read and was left out" in said.out
    refused = cli("data", "curate", str(path))
    assert refused.code == 2
    assert "--task TASK" in refused.err
    empty = cli("data", "curate", str(path), "--task", "toy", "--replies", "plain")
    assert "name the task instead of a file" in empty.err


def test_a_task_is_converted_with_its_train_rows_alone_unless_others_are_named(cli: Cli) -> None:
    out = cli.toy.task / "train.jsonl"
    said = cli("data", "convert", "toy", str(out), "--to", "openai-chat")
    assert said.code == 0, said.err
    assert "its rows of train; 12 of other splits stay" in said.out
    assert len(lines(out)) == 12
    both = cli(
        "data", "convert", "toy", str(out), "--to", "cases", "--force", "--json",
        "--split", "dev", "--split", "test",
    )  # fmt: skip
    assert (both.json["rows"], both.json["left_out"], both.json["lost"]) == (12, 12, {})
    assert {row["split"] for row in lines(out)} == {"dev", "test"}
    wrong = cli("data", "convert", str(out), "x.jsonl", "--to", "cases", "--split", "dev")
    assert (wrong.code, "is a file" in wrong.err) == (2, True)


@pytest.mark.parametrize(("near", "kept"), [((), 0), (("--near", "0.8"), 1)])
def test_what_is_a_near_copy_is_what_the_task_says_unless_told(
    cli: Cli, near: tuple[str, ...], kept: int
) -> None:
    """`tune` refuses what the task calls a copy: no row that it would refuse is made or kept."""
    words = "one two three four five six seven eight nine ten eleven twelve 2 + 4"
    cases = lines(cli.toy.task / "cases.jsonl")
    held = {"id": "held", "split": "test", "inputs": {"say": words, "a": 1, "b": 2}}
    cli.toy.write_cases([*cases, {**held, "cluster": "held", "reference": "3"}])
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text() + "\nnear = 0.6\n")
    rows = cli.toy.root / "rows.jsonl"
    inputs = {"say": words.replace("seven", "acht"), "a": 1, "b": 2}
    rows.write_text(json.dumps({**held, "id": "r", "split": "train", "inputs": inputs,
                                "reference": "3"}) + "\n")  # fmt: skip
    out = cli.toy.root / "kept.jsonl"
    said = cli("data", "curate", str(rows), "--task", "toy", "--out", str(out), *near)
    assert (len(lines(out)) if out.exists() else 0) == kept, said.out + said.err


@pytest.mark.parametrize(("told", "near"), [((), 0.6), (("--near", "0.9"), 0.9)])
def test_made_rows_are_copies_from_the_share_on_that_the_task_names(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, told: tuple[str, ...], near: float
) -> None:
    wishes: list[Wish] = []

    def noted(task: Task, wish: Wish, **more: Any) -> Setting:
        wishes.append(wish)
        return prepare(task, wish, **more)

    monkeypatch.setattr("harness.engine.data.synth_setting.prepare", noted)
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text() + "\nnear = 0.6\n")
    said = cli("data", "synth", "toy", "--by", "perturb", "--for", "dev", "--plan", *told)
    assert said.code == 0, said.err
    assert [wish.near for wish in wishes] == [near]
