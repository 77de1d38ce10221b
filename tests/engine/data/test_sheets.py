"""Spreadsheets as people keep them: titles, notes, merged cells, columns without a name."""

from __future__ import annotations

import datetime as dt
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from harness.engine.data.converting import convert
from harness.engine.data.linting import split_of
from harness.engine.data.reading import open_examples
from harness.errors import TaskError, UsageError


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
    assert list(reading.left) == [
        "the sheet 'Notes' (named as 't.xlsx#Notes')", "the sheet 'Z' (named as 't.xlsx#Z')"
    ]  # fmt: skip


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


def two_sheets() -> Path:
    north = [HEAD, ["a", "x", "k"], ["b", "y", "l"]]
    return book(("North", north), ("South #2", [HEAD, ["c", "z", "m"]]), ("Empty", []))


@pytest.mark.parametrize("name", ["South #2", "south #2", "2"])
def test_a_sheet_is_named_behind_the_file_as_promptfoo_does(name: str) -> None:
    two_sheets()
    reading = open_examples(Path(f"t.xlsx#{name}"))
    assert [(e.reference, e.place) for e in reading] == [("z", "t.xlsx#South #2:2")]
    assert not reading.left
    assert not [note for note in reading.notes if "sheet" in note]


def test_a_sheet_that_is_guessed_is_said_with_how_to_name_another() -> None:
    reading = open_examples(two_sheets())
    assert [e.reference for e in reading] == ["x", "y"]
    assert "read from the sheet 'North' of 3" in reading.notes
    assert "the sheet 'South #2' (named as 't.xlsx#South #2')" in reading.left


def test_a_hidden_sheet_is_guessed_only_where_no_other_holds_a_table() -> None:
    found = Workbook()
    hidden, shown = found.active, found.create_sheet("Rows")
    assert hidden is not None
    hidden.sheet_state = "hidden"
    for sheet, answer in ((hidden, "old"), (shown, "new")):
        sheet.append(["question", "answer"])
        sheet.append(["a", answer])
    found.save("h.xlsx")
    assert [e.reference for e in open_examples(Path("h.xlsx"))] == ["new"]


def test_a_sheet_that_is_not_there_is_an_error_that_lists_the_sheets() -> None:
    two_sheets()
    with pytest.raises(
        TaskError, match=r"t.xlsx: no sheet 'East'. Its sheets: 'North', 'South #2'"
    ):
        open_examples(Path("t.xlsx#East"))
    Path("rows.csv").write_text("question,answer\na,x\n")
    with pytest.raises(TaskError, match=r"rows.csv#East: .* this is no spreadsheet"):
        open_examples(Path("rows.csv#East"))
    with pytest.raises(TaskError, match=r"t.xlsx#Empty:1: no rows in it"):
        open_examples(Path("t.xlsx#Empty"))
    with pytest.raises(TaskError, match=r"other.xlsx#East: no such file"):
        open_examples(Path("other.xlsx#East"))
    Path("rows#1.csv").write_text("question,answer\na,x\n")
    assert [e.reference for e in open_examples(Path("rows#1.csv"))] == ["x"]


def test_a_sheet_is_a_split_of_its_name_and_is_not_overwritten() -> None:
    two_sheets()
    assert (split_of(Path("t.xlsx#Train")), split_of(Path("dev.csv"))) == ("train", "dev")
    with pytest.raises(UsageError, match="read and written are one file"):
        convert(Path("t.xlsx#North"), Path("t.xlsx"), to="columns", overwrite=True)


def test_promptfoo_names_a_sheet_of_tests_the_same_way() -> None:
    rows = [["question", "__expected"], ["a", "x"]]
    book(("First", [["question", "__expected"], ["b", "y"]]), ("Second", rows))
    Path("c.yaml").write_text("prompts: [p]\nproviders: [q]\ntests: file://t.xlsx#Second\n")
    assert [(e.inputs["question"], e.reference) for e in open_examples(Path("c.yaml"))] == [
        ("a", "x")
    ]


def one_long(name: str, *, is_shared: bool, length: int) -> Path:
    """A workbook whose cell A3 has so many characters, as the XML of one sheet or of all texts."""
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rows = [HEAD[:2], ["a", "x"], ["LONG", "y"], ["b", "z"]]
    plain = book(("Q & A", rows))
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            text = old.read(entry).decode()
            if entry.filename.endswith("sheet1.xml"):
                places = ["A1", "B1", "A2", "B2", "A3", "B3", "A4", "B4"]
                said = [value for row in rows for value in row]
                cells = {
                    place: f'<c r="{place}" t="s"><v>{n}</v></c>'
                    if is_shared
                    else f'<c r="{place}" t="inlineStr"><is><t>{said[n]}</t></is></c>'
                    for n, place in enumerate(places)
                }
                body = "".join(
                    f'<row r="{n}">{cells[f"A{n}"]}{cells[f"B{n}"]}</row>' for n in range(1, 5)
                )
                text = f'<worksheet xmlns="{space}"><sheetData>{body}</sheetData></worksheet>'
                text = text.replace("LONG", "a" * length)
            if is_shared and entry.filename == "[Content_Types].xml":
                kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
                part = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}'
                text = text.replace("</Types>", f'{part}.sharedStrings+xml"/></Types>')
            if entry.filename != "xl/sharedStrings.xml":
                new.writestr(entry.filename, text)
        if is_shared:
            texts = "".join(f"<si><t>{v}</t></si>" for row in rows for v in row)
            new.writestr(
                "xl/sharedStrings.xml",
                f'<sst xmlns="{space}">{texts}</sst>'.replace("LONG", "a" * length),
            )
    return Path(name)


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_cell_that_no_program_writes_is_refused_by_sheet_and_row_before_it_is_read(
    is_shared: bool,
) -> None:
    fits = one_long("fits.xlsx", is_shared=is_shared, length=32_767)
    assert [len(str(e.inputs["question"])) for e in open_examples(fits)] == [1, 32_767, 1]
    path = one_long("long.xlsx", is_shared=is_shared, length=60 << 20)
    tracemalloc.start()
    with pytest.raises(TaskError, match=r"long.xlsx#Q & A:3: the cell A3 .* more than 512 KB"):
        open_examples(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
