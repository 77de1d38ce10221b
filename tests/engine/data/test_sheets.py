"""Spreadsheets as people keep them: titles, notes, merged cells, columns without a name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from harness.engine.data.reading import open_examples
from harness.errors import TaskError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def book(*sheets: tuple[str, list[list[Any]]], merged: str = "") -> Path:
    found = Workbook()
    for number, (title, rows) in enumerate(sheets):
        sheet = found.active if number == 0 else found.create_sheet()
        assert sheet is not None
        sheet.title = title
        for row in rows:
            sheet.append(row)
        if merged:
            sheet.merge_cells(merged)
    found.save("t.xlsx")
    return Path("t.xlsx")


HEAD = ["question", "answer", "customer"]


def test_the_sheet_with_a_table_is_read_and_the_others_are_named() -> None:
    notes = [["Exported in July"], [None], ["See the next sheet"]]
    reading = open_examples(book(("Notes", notes), ("Rows", [HEAD, ["a", "x", "k"]]), ("Z", [])))
    assert [e.reference for e in reading] == ["x"]
    assert list(reading.left) == ["the sheet 'Notes'", "the sheet 'Z'"]


def test_lines_above_the_header_are_passed_over_and_said() -> None:
    rows = [["Tickets"], ["Asked", None, "From"], HEAD, ["a", "x", "k"], ["b", "y", "l"]]
    reading = open_examples(book(("S", rows), merged="A2:B2"))
    assert [(e.inputs["question"], e.reference, e.place) for e in reading] == [
        ("a", "x", "t.xlsx:4"), ("b", "y", "t.xlsx:5"),
    ]  # fmt: skip
    assert list(reading.left) == ["the 2 lines above the header, which is row 3"]


def test_numbers_in_the_first_row_of_data_do_not_make_a_header_of_it() -> None:
    rows: list[list[Any]] = [["answer", "n"], ["x", 1], ["y", 2]]
    assert [e.reference for e in open_examples(book(("S", rows)))] == ["x", "y"]


def test_merged_cells_say_in_every_row_what_the_first_says() -> None:
    rows = [HEAD, ["a", "x", "k"], ["b", "y", None], ["c", "z", None], ["d", "w", None]]
    found = open_examples(book(("S", rows), merged="C2:C4"), columns={"customer": "cluster"})
    assert [e.cluster for e in found] == ["k", "k", "k", ""]


def test_a_column_without_a_name_is_left_out_and_said_only_where_it_holds_something() -> None:
    rows = [["question", None, "answer"], ["a", None, "x"], ["b", None, "y", "a remark"]]
    reading = open_examples(book(("S", rows)))
    assert [dict(e.inputs) for e in reading] == [{"question": "a"}, {"question": "b"}]
    assert list(reading.left) == ["column 4, which has no name in the header"]


def test_formulas_that_nobody_computed_are_told() -> None:
    day = dt.datetime(2026, 7, 1, 9, 30)  # noqa: DTZ001 (a sheet knows no zone)
    rows = [["question", "answer", "twice", "when"], ["a", "x", "=1+1", day]]
    reading = open_examples(book(("S", rows)))
    assert [dict(e.inputs) for e in reading] == [
        {"question": "a", "twice": "", "when": "2026-07-01T09:30:00"}
    ]
    assert [w for w in reading.left if "the formulas of the column 'twice'" in w]


def test_a_csv_with_an_index_that_has_no_name_is_read() -> None:
    Path("t.csv").write_text(",text,label\n0,a,x\n1,b,y\n")
    reading = open_examples(Path("t.csv"))
    assert [(dict(e.inputs), e.reference) for e in reading] == [
        ({"text": "a"}, "x"), ({"text": "b"}, "y"),
    ]  # fmt: skip
    assert list(reading.left) == ["column 1, which has no name in the header"]
    Path("none.csv").write_text(",,\n1,2,3\n")
    with pytest.raises(TaskError, match=r"none.csv:1: the header is empty"):
        open_examples(Path("none.csv"))
