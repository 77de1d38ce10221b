"""`harness data split` on files: what is dealt stays dealt, and no row goes in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.toy import Toy


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(Toy(tmp_path / "toy"), monkeypatch, capsys)


def rows(count: int) -> str:
    return "text,label\n" + "".join(f"Where is lamp {n}?,{'ab'[n % 2]}\n" for n in range(count))


def test_a_longer_export_is_dealt_as_the_shorter_one_was(cli: Cli) -> None:
    source, out = cli.toy.root / "r.csv", cli.toy.root / "out.jsonl"
    source.write_text(rows(30))
    assert cli("data", "split", "r.csv", "--out", "out.jsonl", "--to", "columns").code == 0
    before = {r["text"]: r["split"] for r in map(json.loads, out.read_text().splitlines())}
    source.write_text(rows(75))
    assert cli("data", "split", "r.csv", "--out", "out.jsonl").code == 2
    said = cli("data", "split", "r.csv", "--out", "out.jsonl", "--to", "columns", "--force")
    assert said.code == 0
    assert "rows that stand in out.jsonl already keep the split" in said.out
    after = {r["text"]: r["split"] for r in map(json.loads, out.read_text().splitlines())}
    assert len(after) == 75
    assert {text: after[text] for text in before} == before


def test_rows_that_cannot_be_read_are_counted_and_a_file_of_them_is_an_error(cli: Cli) -> None:
    good = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
    (cli.toy.root / "r.jsonl").write_text(good + '{"text": NaN, "label": "x"}\n')
    said = cli("data", "split", "r.jsonl", "--json")
    assert said.json["rejected"] == 1
    said = cli("data", "split", "r.jsonl")
    assert "1 row cannot be read, so in no split:" in said.out
    assert "r.jsonl:3: NaN is not JSON" in said.out
    (cli.toy.root / "r.jsonl").write_text('{"text": NaN, "label": "x"}\n')
    said = cli("data", "split", "r.jsonl", "--out", "out.jsonl")
    assert said.code == 2
    assert "no usable row (1 rejected). The first: r.jsonl:1: NaN is not JSON" in said.err
    assert not (cli.toy.root / "out.jsonl").exists()
