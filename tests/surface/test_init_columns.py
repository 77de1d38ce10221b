"""Which column is what, for `init --from`: what its guess does with a column that holds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.toy import Toy


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    rows = [f"What of {n} and {n * n}?,{'ab'[n % 2]},note {n}" for n in range(40)]
    found = Cli(Toy(tmp_path / "toy"), monkeypatch, capsys)
    (tmp_path / "toy/tickets.csv").write_text("Message,Team,Comment\n" + "\n".join(rows) + "\n")
    (tmp_path / "toy/p.txt").write_text("Team of {{ Message }}?")
    return found


def test_a_table_with_an_empty_column_of_answers_is_brought_in_with_those_it_has(cli: Cli) -> None:
    """`data split` once wrote an answer that nobody named as an empty column `reference`."""
    root = cli.toy.root
    head, *rows = (root / "tickets.csv").read_text().splitlines()
    dealt = "\n".join([f"{head},reference", *(f"{row}," for row in rows)])
    (root / "dealt.csv").write_text(dealt + "\n")
    said = cli("init", "mine", "--from", "dealt.csv", "--prompt", "p.txt", "--yes",
               "--candidate", "constant:a")  # fmt: skip
    assert said.code == 0, said.err
    assert "answer 'Team'" in said.out
    assert "  asked        Message\n" in said.out
    assert "rows' `Comment`: 40" in said.out


def test_an_input_may_be_called_nearly_as_a_role_where_that_is_said(cli: Cli) -> None:
    said = cli("init", "mine", "--from", "tickets.csv", "--yes", "--candidate", "constant:a",
               "--map", "Team=answer", "--map", "Message=inputs.answers",
               "--map", "Comment=Comment")  # fmt: skip
    assert said.code == 0, said.err
    assert "input answers from 'Message', input 'Comment'" in said.out
    assert "  asked        answers, Comment\n" in said.out


def test_what_split_dealt_keeps_a_customer_together_and_init_brings_it_in(cli: Cli) -> None:
    rows = [f"What of {n} and {n * n}?,{'ab'[n % 2]},Okafor {n // 3}" for n in range(60)]
    (cli.toy.root / "t.csv").write_text("Message,Team,Customer\n" + "\n".join(rows) + "\n")
    assert cli("data", "split", "t.csv", "--out", "dealt.csv").code == 0
    head, *dealt = (cli.toy.root / "dealt.csv").read_text().splitlines()
    assert head == "Message,reference,split,cluster"
    split_of = {(row.split(",")[3], row.split(",")[2]) for row in dealt}
    assert len(split_of) == 20
    assert {split for _, split in split_of} == {"train", "dev", "test"}
    said = cli("init", "mine", "--from", "dealt.csv", "--prompt", "p.txt",
               "--candidate", "constant:a")  # fmt: skip
    assert said.code == 0, said.err
    assert "60 cases of dealt.csv" in said.out
    assert "  asked        Message\n" in said.out


def test_a_prompt_that_names_a_column_says_that_it_is_asked(cli: Cli) -> None:
    (cli.toy.root / "p.txt").write_text("{{ Message }} to {{ Team }}?")
    said = cli("init", "mine", "--from", "tickets.csv", "--prompt", "p.txt", "--yes",
               "--candidate", "constant:a")  # fmt: skip
    assert "input 'Message', input 'Team', answer 'Comment'" in said.out, said.err


@pytest.mark.parametrize("role", ["answer", "reference"])
def test_a_column_that_is_named_the_answer_is_told_as_the_answer(cli: Cli, role: str) -> None:
    said = cli("init", "mine", "--from", "tickets.csv", "--prompt", "p.txt", "--yes",
               "--candidate", "constant:a", "--map", f"Team={role}")  # fmt: skip
    assert "answer 'Team'" in said.out, said.err
    assert "input answer" not in said.out


def test_a_column_that_is_to_be_ignored_is_neither_answer_nor_split_nor_source(cli: Cli) -> None:
    rows = [f"What of {n} and {n * n}?,{'ab'[n % 2]},holdout,c{n // 9}" for n in range(40)]
    (cli.toy.root / "t.csv").write_text("Message,label,split,cluster\n" + "\n".join(rows) + "\n")
    told = ("init", "mine", "--from", "t.csv", "--prompt", "p.txt", "--yes",
            "--candidate", "constant:a")  # fmt: skip
    refused = cli(*told)
    assert refused.code == 2
    assert "the split is 'holdout'" in refused.err
    assert "split=ignore" in refused.err
    said = cli(*told, "--map", "split=ignore", "--map", "label=ignore", "--map", "cluster=ignore")
    assert said.code == 0, said.err
    made = [json.loads(line) for line in
            (cli.toy.root / "evals/mine/cases.jsonl").read_text().splitlines()]  # fmt: skip
    assert {row["split"] for row in made} == {"train", "dev", "test"}
    assert not any("reference" in row for row in made)
    assert len({row.get("cluster", row["id"]) for row in made}) == 40
