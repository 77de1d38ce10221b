"""A task whose evals score all replies together alone: shown, and no ground for a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

EVALS = """
def test_mean_length(trials, score):
    score(sum(len(t.reply.text) for t in trials) / len(trials) / 10)
"""


def test_no_verdict_asks_or_looks_where_no_eval_scores_a_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(tmp_path)
    (toy.task / "eval_toy.py").write_text(EVALS)
    settings = (toy.task / "task.toml").read_text()
    (toy.task / "task.toml").write_text(settings.replace('primary = "right"', ""))
    cli = Cli(toy, monkeypatch, capsys)
    for words in (
        ("ladder", "toy"),
        ("gate", "toy", "--candidate", "plain", "--baseline", "shots"),
    ):
        said = cli(*words)
        assert said.code == 2, words
        assert "its evals (mean_length) give one number for all replies together" in said.err
    assert toy.sent == []
    assert cli("eval", "toy", "--candidate", "plain", "--candidate", "shots").code == 0
    assert len(toy.sent) == 24
    compare = ("compare", "toy", "--candidate", "plain")
    for words in (
        ("wall", "toy"),
        (*compare, "--baseline", "shots"),
        (*compare, "--bless", "b.json"),
        ("compare", "toy", "--two-by-two", "plain", "shots", "reference", "constant:1"),
    ):
        said = cli(*words)
        assert said.code == 2, words
        assert "its evals (mean_length) give" in said.err
    assert not (toy.root / "b.json").exists()
    assert cli("report", "toy").code == 0
    assert len(toy.sent) == 24
