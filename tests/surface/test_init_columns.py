"""Which column is what, for `init --from`: what its guess does with a column that holds nothing."""

from __future__ import annotations

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


def test_a_table_that_was_split_is_brought_in_with_the_answers_of_the_table(cli: Cli) -> None:
    """`data split` writes an answer that nobody named as an empty column `reference`."""
    assert cli("data", "split", "tickets.csv", "--out", "dealt.csv").code == 0
    assert (cli.toy.root / "dealt.csv").read_text().startswith("Message,Team,Comment,reference,")
    said = cli("init", "mine", "--from", "dealt.csv", "--prompt", "p.txt", "--yes",
               "--candidate", "constant:a")  # fmt: skip
    assert said.code == 0, said.err
    assert "answer 'Team'" in said.out
    assert "  asked        Message\n" in said.out
    assert "the column 'Comment'" in said.out
