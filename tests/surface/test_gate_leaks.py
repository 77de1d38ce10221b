"""A leak of any kind is an error at every verb that makes or shows a number; a command ends it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core import twins
from harness.core.sketch import Sketches
from harness.engine import leaks
from harness.engine.data import linting, splitting
from harness.engine.leaks import MEMORY, every_leak
from harness.engine.tasks import load_task
from harness.surface.run_evals import run_evals
from tests.surface.inprocess import Cli
from tests.surface.test_tuning_cli import TUNER

LONG = (
    "which of the many customers of the old shop in the main street bought the most bread and milk "
    "in the first months of the last year"
)
PNG = bytes.fromhex("89504e470d0a1a0a")
Row = dict[str, Any]


def toy_rows(*splits: str) -> list[Row]:
    return [
        {"id": f"c{i}", "split": split, "cluster": f"k{i}", "inputs": {"a": i, "b": i},
         "reference": str(2 * i)}
        for i, split in enumerate(splits)
    ]  # fmt: skip


def leaking(kind: str, one: int, other: int, splits: list[str]) -> list[Row]:
    """Rows of which `one` and `other` tell of each other."""
    rows = toy_rows(*splits)
    if kind == "source":
        rows[one]["cluster"] = rows[other]["cluster"]
    else:
        rows[one]["inputs"] = {"a": LONG, "b": 1}
        rows[other]["inputs"] = {"a": LONG + (" please" if kind == "near" else ""), "b": 1}
    return rows


KINDS = {
    "same": "the inputs of '{}' ({}) stand in {} too, at ",
    "near": "the inputs of '{}' ({}) are nearly those in {}, at ",
    "source": "the source '{3}' of '{0}' ({1}) is in {2} too, at ",
}
WAYS = [
    ("eval", "toy", "--candidate", "plain"),
    ("eval", "toy", "--candidate", "plain", "--only", "missed"),
    ("eval", "toy", "--candidate", "plain", "--sample", "3"),
    ("ladder", "toy"),
    ("ladder", "toy", "--show"),
    ("ladder", "toy", "--dry-run"),
    ("ladder", "toy", "--anatomy", "plain"),
    ("compare", "toy", "--candidate", "plain", "--baseline", "shots"),
    ("compare", "toy", "--candidate", "plain", "--bless", "b.json"),
    ("compare", "toy", "--two-by-two", "plain", "shots", "reference", "constant:1"),
    ("wall", "toy"),
    ("wall", "toy", "--plan"),
    ("wall", "toy", "--audit-csv", "a.csv"),
    ("report", "toy"),
    ("model", "slim", "toy", "--candidate", "plain"),
    ("ladder", "toy", "--models", "adder:small,adder:large"),
    ("ladder", "toy", "--optimise"),
    ("wall", "toy", "--confirm"),
    ("wall", "toy", "--audit"),
    ("wall", "toy", "--audit-import", "a.csv"),
    ("advise", "toy", "--memo", "m.md"),
    ("compare", "toy", "--candidate", "plain", "--baseline", "b.json"),
]
OF_TRAIN = [
    ("eval", "toy", "--split", "train", "--candidate", "plain"),
    ("tune", "toy"),
    ("tune", "toy", "--override", "a test"),
    ("tune", "toy", "--plan"),
    ("tune", "toy", "--pilot"),
    ("model", "adopt", "tuned", "--base", "adder:small"),
    ("data", "synth", "toy", "--by", "perturb", "--out", "made.jsonl"),
    ("data", "convert", "toy", "out.jsonl", "--to", "openai-chat"),
]
OF_TEST = [
    ("eval", "toy", "--split", "test", "--candidate", "plain"),
    ("gate", "toy"),
    ("gate", "toy", "--candidate", "plain", "--baseline", "shots"),
]
NUMBERS = {"dev": 2, "train": 7, "test": 9}
"""Of the case that leaks, in each split."""
PAIRS = [("dev", "train"), ("dev", "test"), ("test", "train")]


def written(root: Path) -> list[Path]:
    """What there is but Python's own; what is remembered of splits comes with a verb of one, and
    with it the folder, which tells git to leave it alone.
    """
    found = (p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted(p for p in found if p.name not in {MEMORY, ".gitignore"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_leak_is_an_error_at_every_verb_before_anything_is_asked_or_written(
    cli: Cli, kind: str, pair: tuple[str, str]
) -> None:
    one, other = (NUMBERS[split] for split in pair)
    rows = leaking(kind, one, other, ["dev"] * 6 + ["train"] * 3 + ["test"] * 3)
    cli.toy.write_cases(rows)
    before = written(cli.toy.root)
    rule = {"same": "leak", "near": "near-leak", "source": "source-leak"}[kind]
    is_whole = list(KINDS).index(kind) == PAIRS.index(pair)  # one function, so not each at all
    for asked, every in [("dev", WAYS), ("train", OF_TRAIN), ("test", OF_TEST)]:
        ways = every if is_whole else every[: len(every) // 3]
        # the split that a verb is about is looked at first, then dev, then test
        named, beside = pair if asked != pair[1] else pair[::-1]
        case = NUMBERS[named]
        says = KINDS[kind].format(f"c{case}", named, beside, rows[case]["cluster"])
        for words in ways:
            said = cli(*words)
            assert said.code == 2, words
            assert f"cases.jsonl:{case + 1}: {says}" in said.err, words
            assert said.err.count("no number can rest on them") == 1
            assert said.out == "", "no forecast, no table"
    assert cli.toy.sent == []
    assert written(cli.toy.root) == before
    told = cli("doctor")
    assert (told.code, "1 case in two splits. The first: " in told.out) == (1, True)
    assert "LEAK: " in cli("data", "look", "toy").out
    assert cli("data", "lint", "toy", "--only", rule).code == 1, "lint says the same"


def test_an_artifact_of_a_task_that_leaks_by_now_is_neither_made_smaller_nor_released(
    cli: Cli,
) -> None:
    (cli.toy.root / "site/adder.py").write_text(TUNER)
    settings = cli.toy.task / "task.toml"
    settings.write_text(settings.read_text() + '[tune]\ntuner = "slow"\nprompt = "plain"\n')
    evals = "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    (cli.toy.task / "eval_toy.py").write_text(evals)
    assert cli("tune", "toy", "--override", "a test").code == 0
    sent, before = cli.toy.sent, written(cli.toy.root)
    for kind in KINDS:
        rows = leaking(kind, 2, 7, ["dev"] * 6 + ["train"] * 3 + ["test"] * 3)
        cli.toy.write_cases(rows)
        for words in [
            ("model", "variants", "tuned"),
            ("gate", "toy"),
            ("eval", "toy", "--candidate", "tuned"),
            ("tune", "toy", "--override", "a test", "--start", "tuned"),
        ]:
            said = cli(*words)
            assert (said.code, "no number can rest on them" in said.err) == (2, True), words
            assert said.out == ""
    assert (cli.toy.sent, written(cli.toy.root)) == (sent, before)


def test_plain_pytest_stops_at_a_leak_too(cli: Cli) -> None:
    cli.toy.write_cases(leaking("near", 2, 7, ["dev"] * 6 + ["train"] * 3))
    done = cli.pytest("evals/toy", "--candidate", "plain")
    assert done.code == 2, done.out
    assert "are nearly those in train" in done.out + done.err
    of_train = run_evals(
        load_task(cli.toy.task), ["plain"], store=cli.toy.root / "of_train.db", split="train"
    )
    assert "'c7' (train) are nearly those in dev" in str(of_train.error)
    assert of_train.runs == ()
    assert cli.toy.sent == []


# ---------------------------------------------------------------- the way out


def follow(cli: Cli, said: str) -> str:
    """Do what the message says; return where the cases are now."""
    found = re.search(r"harness (data split .* --all --out ('[^']+'|\S+)(?: --force)?)", said)
    assert found is not None, said
    words = shlex.split(found[1])
    done = cli(*words)
    assert done.code == 0, done.err
    return words[words.index("--out") + 1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_that_is_named_deals_every_leak_away(cli: Cli, kind: str) -> None:
    rows = leaking(kind, 2, 7, ["dev"] * 6 + ["train"] * 6 + ["test"] * 6)
    rows[3] |= {"tags": ["hard"], "checks": [{"name": "contains", "arguments": {"text": "6"}}],
                "also_right": ["six"], "provenance": {"made_by": "hand"}}  # fmt: skip
    cli.toy.write_cases(rows)
    follow(cli, cli("ladder", "toy", "--dry-run").err)
    task = load_task(cli.toy.task)
    assert every_leak(task) == []
    assert cli("wall", "toy", "--plan").code in {0, 3}
    after = [json.loads(line) for line in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    assert {row["split"] for row in after} == {"train", "dev", "test"}
    if kind == "same":  # equal inputs are one source to every number: now the file says so
        assert (after[7].pop("cluster"), rows[7].pop("cluster")) == ("k2", "k7")
    bare = [{k: v for k, v in row.items() if k != "split"} for row in after]
    assert bare == [{k: v for k, v in row.items() if k != "split"} for row in rows]


def test_a_near_copy_that_the_sketches_of_a_large_task_miss_is_listed_and_dealt_away(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = leaking("near", 2, 7, ["dev"] * 6 + ["train"] * 6 + ["test"] * 6)
    rows[9]["inputs"] = rows[7]["inputs"] | {"a": LONG.upper() + " please"}  # the same as 7
    cli.toy.write_cases(rows)
    for large in (twins, linting, splitting):
        monkeypatch.setattr(large, "FEW", 5)
    none = np.zeros(0, dtype=np.uint64)
    monkeypatch.setattr(Sketches, "candidates", lambda self, context: none)
    assert "in 1 pair" in cli("data", "lint", "toy", "--only", "near-leak").out
    file = cli.toy.task / "cases.jsonl"
    alone = cli("data", "split", str(file), "--all")
    assert ", 0 near pairs" in alone.out, "so the sketches do miss it here"
    for seed in range(4):  # the deal of some seed would part them
        cli("data", "split", "toy", "--all", "--out", str(file), "--force", "--seed", str(seed))
        assert every_leak(load_task(cli.toy.task)) == []
    assert cli("ladder", "toy", "--dry-run").code == 0


def test_the_command_names_a_task_so_that_the_shell_finds_it_from_anywhere(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.toy.write_cases(leaking("same", 2, 7, ["dev"] * 6 + ["train"] * 6))
    spaced = cli.toy.task.with_name("my task")
    cli.toy.task.rename(spaced)
    assert "data split 'my task' --all" in cli("ladder", "my task", "--dry-run").err
    monkeypatch.chdir(cli.toy.root.parent)
    said = cli("compare", str(spaced), "--candidate", "plain").err
    follow(cli, said)
    assert every_leak(load_task(spaced)) == []


def test_a_case_whose_id_another_split_names_as_its_source_is_listed_and_dealt_away(
    cli: Cli,
) -> None:
    rows = toy_rows(*["dev"] * 6, *["train"] * 6, *["test"] * 6)
    del rows[2]["cluster"]  # so it is its own source
    rows[7]["cluster"] = "c2"
    cli.toy.write_cases(rows)
    said = cli("ladder", "toy", "--dry-run")
    assert "the source 'c2' of 'c2' (dev) is in train too" in said.err
    assert "c2" in cli("data", "lint", "toy", "--only", "source-leak").out
    follow(cli, said.err)
    assert every_leak(load_task(cli.toy.task)) == []


def test_a_task_with_a_file_for_each_split_is_dealt_into_one(cli: Cli) -> None:
    rows = leaking("source", 2, 7, ["dev"] * 6 + ["train"] * 6)
    for split in ("dev", "train"):
        own = "".join(json.dumps(row) + "\n" for row in rows if row["split"] == split)
        (cli.toy.task / f"{split}.jsonl").write_text(own)
    (cli.toy.task / "cases.jsonl").unlink()
    settings = (cli.toy.task / "task.toml").read_text()
    (cli.toy.task / "task.toml").write_text(
        settings.replace('cases = "cases.jsonl"', 'cases = ["dev.jsonl", "train.jsonl"]')
    )
    said = cli("ladder", "toy", "--dry-run").err
    assert '(and `cases = "cases.jsonl"` in task.toml)' in said
    assert follow(cli, said).endswith("cases.jsonl")
    (cli.toy.task / "task.toml").write_text(settings)
    assert every_leak(load_task(cli.toy.task)) == []


def test_a_picture_under_another_name_is_dealt_to_where_it_stands(cli: Cli) -> None:
    rows = toy_rows(*["dev"] * 6, *["train"] * 6)
    for n, row in enumerate(rows):
        row["inputs"] = {"a": n, "b": n, "photo": f"{n}.png"}
        content = 2 if n == 7 else n
        (cli.toy.task / f"{n}.png").write_bytes(PNG + bytes([content]))
    rows[7]["inputs"] |= {"a": 2, "b": 2}
    settings = cli.toy.task / "task.toml"
    settings.write_text('images = ["photo"]\n' + settings.read_text())
    cli.toy.write_cases(rows)
    said = cli("ladder", "toy", "--dry-run")
    assert "'c2' (dev), but for case, spacing, punctuation or the names of pictures" in said.err
    linted = cli("data", "lint", "toy", "--only", "leak")
    assert linted.code == 1, "lint sees it too"
    follow(cli, said.err)
    assert every_leak(load_task(cli.toy.task)) == []
    after = (cli.toy.task / "cases.jsonl").read_text()
    assert '"photo": "7.png"' in after or '"photo":"7.png"' in after


def test_questions_that_are_alike_by_nature_are_said_to_be(cli: Cli) -> None:
    cli.toy.write_cases(leaking("near", 2, 7, ["dev"] * 6 + ["train"] * 3))
    assert "`near` in task.toml is the share" in cli("ladder", "toy", "--dry-run").err
    settings = cli.toy.task / "task.toml"
    settings.write_text("near = 1.0\n" + settings.read_text())
    assert cli("ladder", "toy", "--dry-run").code == 0
    assert cli("data", "lint", "toy", "--only", "near-leak").code == 0
    settings.write_text(settings.read_text().replace("near = 1.0", "near = 0"))
    assert "near" in cli("ladder", "toy", "--dry-run").err


# ---------------------------------------------------------------- what is remembered


def test_cases_without_a_leak_are_searched_once_and_again_where_one_changed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    plain = leaks.find_leaks
    monkeypatch.setattr(
        leaks, "find_leaks", lambda *a, **k: (searched.append(a[1]), plain(*a, **k))[1]
    )
    rows = toy_rows(*["dev"] * 6, *["train"] * 3)
    cli.toy.write_cases(rows)
    for _ in range(3):
        leaks._CLEAN.clear()  # as another process would begin
        assert cli("ladder", "toy", "--dry-run").code == 0
    assert searched == ["dev"]
    assert len((cli.toy.root / ".harness" / MEMORY).read_text().splitlines()) == 1
    for change in ({"reference": "9"}, {"inputs": {"a": 99, "b": 1}}, {"cluster": "k2"}):
        rows[7] |= change
        cli.toy.write_cases(rows)
        leaks._CLEAN.clear()
        assert cli("ladder", "toy", "--dry-run").code == (2 if "cluster" in change else 0)
    assert searched == ["dev"] * 3, "a reference tells of no leak; an input and a source may"
    rows[7]["cluster"] = "k7"
    cli.toy.write_cases(rows)
    assert cli("ladder", "toy", "--dry-run").code == 0
    assert searched == ["dev"] * 3


def test_only_looking_at_what_there_is_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    cli.toy.write_cases(toy_rows(*["dev"] * 6, *["train"] * 3))
    leaks._CLEAN.clear()
    assert cli.pytest("evals/toy", "--collect-only", "-q").code == 0
    assert not (cli.toy.root / ".harness" / MEMORY).exists()
    leaks._CLEAN.clear()  # as another process would begin
    assert cli.pytest("evals/toy", "-q").code == 0
    assert (cli.toy.root / ".harness" / MEMORY).exists()


def test_a_long_search_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaks, "LONG", 5)
    cli.toy.write_cases(toy_rows(*["dev"] * 6, *["train"] * 3))
    leaks._CLEAN.clear()
    said = cli("ladder", "toy", "--dry-run")
    assert "looking for leaks between the splits of 9 cases, once" in said.err
    leaks._CLEAN.clear()
    assert "looking for leaks" not in cli("ladder", "toy", "--dry-run").err
    (cli.toy.root / ".harness" / MEMORY).unlink()
    leaks._CLEAN.clear()
    capsys.readouterr()
    store = cli.toy.root / ".harness/harness.db"
    run_evals(load_task(cli.toy.task), ["reference"], store=store, is_quiet=False)
    assert "looking for leaks" in capsys.readouterr().out, "as pytest tells it"
