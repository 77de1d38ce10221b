"""What a stranger reads who has done one thing and asks for the next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.toy import Toy


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(Toy(tmp_path / "toy"), monkeypatch, capsys)


def test_a_wall_without_tries_names_the_model_that_was_asked_instead(cli: Cli) -> None:
    assert cli("eval", "toy", "--candidate", "plain@adder:large").code == 0
    said = cli("wall", "toy")
    assert said.code == 3
    assert "no complete try over dev on adder:small" in said.err
    assert "run on adder:large" in said.err
    assert "`model` in task.toml" in said.err


def test_runs_have_no_column_that_says_nothing(cli: Cli) -> None:
    cli("eval", "toy", "--candidate", "plain")
    heads = cli("runs").out.splitlines()[0].split()
    assert heads == ["run", "task", "split", "candidate", "backend", "cases", "at"]
    cli("eval", "toy", "--candidate", "plain", "--sample", "3")
    assert cli("runs").out.splitlines()[0].split()[-3:] == ["cases", "note", "at"]


def test_doctor_leaves_nothing_behind_in_a_folder_without_tasks(cli: Cli) -> None:
    shutil.rmtree(cli.toy.task)
    said = cli("doctor")
    assert said.code == 0
    assert "– store: none yet" in said.out
    assert "– tasks: none yet: harness init NAME" in said.out
    assert not (cli.toy.root / ".harness").exists()


def test_the_page_of_data_says_one_row_and_one_length_as_people_do(cli: Cli) -> None:
    """It said `1 rows without`, and `nine in ten 1–1, all 1–1 items`."""
    rows = [{"q": f"what of {n}?", "marks": [str(n)], "answer": f"it is {n}"} for n in range(40)]
    del rows[0]["marks"]
    text = "\n".join(json.dumps(row) for row in rows)
    (cli.toy.root / "rows.jsonl").write_text(text + "\n")
    assert cli("data", "look", "rows.jsonl", "--html", "rows.html").code == 0
    page = (cli.toy.root / "rows.html").read_text()
    assert "lists: all of 1 items; 1 row without" in page
