"""`harness data split` on files: what is dealt stays dealt, and no row goes in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openpyxl import Workbook

from harness.surface import progress
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
    said = cli("data", "split", "r.jsonl", "--json", "--skip-bad")
    assert (said.code, said.json["bad"], said.json["new"]) == (0, 1, 2)
    said = cli("data", "split", "r.jsonl")
    assert (said.code, said.out) == (2, ""), "its counts would be those of other rows"
    assert "r.jsonl:3: NaN is not JSON" in said.err
    (cli.toy.root / "r.jsonl").write_text('{"text": NaN, "label": "x"}\n')
    said = cli("data", "split", "r.jsonl", "--out", "out.jsonl")
    assert said.code == 2
    assert "no usable row (1 could not be read). The first: r.jsonl:1: NaN is not" in said.err
    assert not (cli.toy.root / "out.jsonl").exists()


def test_a_row_that_the_form_cannot_hold_is_not_lost_in_silence(cli: Cli) -> None:
    (cli.toy.root / "r.csv").write_text(rows(30) + "Is a lamp without an answer here?,\n")
    wanted = ("data", "split", "r.csv", "--out", "out.jsonl", "--to", "trl-prompt-completion")
    said = cli(*wanted)
    assert said.code == 2
    assert "r.csv:32: trl-prompt-completion cannot hold the row" in said.err
    assert not (cli.toy.root / "out.jsonl").exists()
    left = cli(*wanted, "--skip-bad")
    assert left.code == 0
    assert "1 row could not be written and was left out:\n  r.csv:32: " in left.out


def test_an_earlier_deal_with_a_row_that_cannot_be_read_is_not_replaced(cli: Cli) -> None:
    source, out = cli.toy.root / "r.csv", cli.toy.root / "out.jsonl"
    source.write_text(rows(30))
    again = ("data", "split", "r.csv", "--out", "out.jsonl", "--to", "columns", "--force")
    assert cli(*again).code == 0
    out.write_text(broken := out.read_text().replace('"split"', "split", 1))
    said = cli(*again)
    assert said.code == 2
    assert "out.jsonl:1: not JSON" in said.err
    assert out.read_text() == broken
    assert cli(*again, "--skip-bad").code == 0


def test_a_sheet_is_split_and_its_workbook_is_not_replaced(cli: Cli) -> None:
    book = Workbook()
    for name, first in (("North", 0), ("South", 29)):
        sheet = book.create_sheet(name)
        sheet.append(["text", "label"])
        for n in range(first, first + 30):
            sheet.append([f"Where is lamp {n}?", "ab"[n % 2]])
    book.save(cli.toy.root / "b.xlsx")
    before = (cli.toy.root / "b.xlsx").read_bytes()
    said = cli("data", "split", "b.xlsx#South", "--out", "b.xlsx", "--force")
    assert (said.code, "its other sheets would be lost" in said.err) == (2, True)
    assert (cli.toy.root / "b.xlsx").read_bytes() == before
    assert cli("data", "split", "b.xlsx#South", "--out", "out.jsonl", "--to", "columns").code == 0
    lines = (cli.toy.root / "out.jsonl").read_text().splitlines()
    dealt = {json.loads(line)["text"] for line in lines}
    assert dealt == {f"Where is lamp {n}?" for n in range(29, 59)}
    found = cli("data", "lint", "b.xlsx#North", "b.xlsx#South", "--sarif", "x.sarif", "--json")
    places = [r["place"] for f in found.json["findings"] for g in f["groups"] for r in g]
    assert {"b.xlsx#North:31", "b.xlsx#South:2"} <= set(places), "lamp 29 is in both"
    log = json.loads((cli.toy.root / "x.sarif").read_text())
    results = [r for r in log["runs"][0]["results"] if "locations" in r]
    uris = {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results}
    assert uris == {"b.xlsx"}


def test_a_long_deal_shows_how_far_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    (cli.toy.root / "r.csv").write_text(rows(3000))
    size = (cli.toy.root / "r.csv").stat().st_size // 1024
    said = cli("data", "split", "r.csv", "--out", "out.jsonl", "--to", "columns")
    assert said.code == 0
    lines = [line for line in said.err.splitlines() if line.startswith("KB: ")]
    assert lines[0].startswith(f"KB: 0 of {size},")
    assert lines[-1].startswith(f"KB: {size} of {size},")


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_columns_that_a_person_had_are_there_though_they_are_empty(cli: Cli, suffix: str) -> None:
    lines = [f"r{n},Where is lamp {n}?,,,," for n in range(30)]
    head = "id,text,reference,tags,note,cluster"
    (cli.toy.root / "t.csv").write_text("\n".join([head, *lines]) + "\n")
    assert cli("data", "split", "t.csv", "--out", f"dealt.{suffix}").code == 0
    assert cli("data", "convert", f"dealt.{suffix}", "again.csv", "--to", "csv").code == 0
    columns = (cli.toy.root / "again.csv").read_text().splitlines()[0].split(",")
    assert set(columns) == {*head.split(","), "split"}
    (cli.toy.root / "t.csv").write_text("text,label\n" + "Where?,\nWhen?,\n" * 15)
    assert cli("data", "split", "t.csv", "--out", "labels.csv").code == 0
    assert (cli.toy.root / "labels.csv").read_text().splitlines()[0] == "text,reference,split"


def test_rows_that_no_deal_can_part_are_named_with_what_was_taken_for_their_source(
    cli: Cli,
) -> None:
    (cli.toy.root / "t.csv").write_text(
        "text,label,company\n" + "".join(f"Where is lamp {n}?,a,ACME\n" for n in range(30))
    )
    said = cli("data", "split", "t.csv")
    assert said.code == 0
    assert "cluster from 'company'; inputs from 'text' (--map says otherwise)" in said.out
    assert "and none is cut" in said.out
    assert "No row is " in said.out
    said = cli("data", "split", "t.csv", "--map", "company=ignore")
    assert "and none is cut" not in said.out
    assert "reference from 'label'" in cli("data", "split", "t.csv", "--json").json["notes"][0]
    assert "No row is" not in cli("data", "split", "t.csv", "--map", "company=ignore",
                                  "--dev", "0").out  # fmt: skip


def test_lint_says_how_a_file_was_read_where_that_was_guessed(cli: Cli) -> None:
    (cli.toy.root / "t.csv").write_text(rows(30))
    said = cli("data", "lint", "t.csv")
    assert (
        "note   t.csv: guessed from names: reference from 'label'; inputs from 'text'" in said.out
    )
