"""The first row of a file without a header is a row; a header is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.engine.data.reading import open_examples


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(name: str, text: str) -> tuple[list[Any], tuple[str, ...]]:
    Path(name).write_text(text, encoding="utf-8")
    reading = open_examples(Path(name))
    return [dict(one.inputs) for one in reading], reading.notes


def test_each_line_of_a_text_is_a_row_the_first_one_too() -> None:
    found, notes = rows("words.txt", 'ass\n"Quoted" he said, yes\n\nAnother, with comma, two\n')
    assert found == [
        {"text": "ass"}, {"text": '"Quoted" he said, yes'}, {"text": "Another, with comma, two"}
    ]  # fmt: skip
    assert notes[0] == "no header: each line is a row, its `text`"
    assert rows("named.txt", "question\nIs it open?\n")[0] == [{"question": "Is it open?"}]
    assert rows("table.txt", "a,b\n1,2\n3,4\n")[0] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize("name", ["sms.txt", "sms.tsv"])
def test_a_first_row_whose_label_comes_back_is_no_header(name: str) -> None:
    found, notes = rows(name, "ham\tGo until\nspam\tFree\nham\tOk\nham\tNo\n")
    assert found[0] == {"column_1": "ham", "column_2": "Go until"}
    assert len(found) == 4
    assert notes[0] == "no header: the columns are called column_1 to column_2"
    found, _ = rows("kinds.csv", "question,Why?\ncomment,Ah\nquestion,Who?\nquestion,How?\n")
    assert found[0] == {"column_1": "question", "column_2": "Why?"}


def test_a_line_for_excel_is_no_header() -> None:
    found, _ = rows("excel.csv", "\ufeffsep=;\r\nquestion;note\r\nOpen, or not?;x\r\n")
    assert found == [{"question": "Open, or not?", "note": "x"}]


@pytest.mark.parametrize(
    "text",
    [
        "label,text\nham,a\nlabel,text\nham,b\nlabel,text\nspam,c\n",  # files one after the other
        "0,1\n0,a\n1,b\n0,c\n0,d\n",  # pandas' names
        "yes,no\nyes,a\nb,c\n",  # once is chance
        "text,spam\nBuy,spam\nHi,ham\nWin,spam\n",  # a column that is called as its label is
    ],
)
def test_a_header_stays_one(text: str) -> None:
    _, notes = rows("x.csv", text)
    assert not any("no header" in note for note in notes)


def sheet(*cells: tuple[Any, ...]) -> tuple[list[Any], tuple[str, ...]]:
    from openpyxl import Workbook

    book = Workbook()
    for row in cells:
        book.active.append(row)
    book.save("book.xlsx")
    reading = open_examples(Path("book.xlsx"))
    return [dict(one.inputs) for one in reading], reading.notes


def test_a_spreadsheet_without_a_header_keeps_its_first_row_too() -> None:
    found, notes = sheet(("ham", "Go", 1), ("spam", "Free", 2), ("ham", "Ok", 3), ("ham", "No", 4))
    assert found[0] == {"column_1": "ham", "column_2": "Go", "column_3": 1}
    assert len(found) == 4
    assert notes[0] == "no header: the columns are called column_1 to column_3"
    found, notes = sheet(("kind", "said"), ("ham", "Go"), ("spam", "Free"), ("ham", "Ok"))
    assert found[0] == {"kind": "ham", "said": "Go"}
    assert notes[0].startswith("the first row is taken as names, 'kind' and 'said': where it is a")


def test_a_first_row_that_nothing_tells_is_said_to_be_names() -> None:
    found, notes = rows("a.csv", "Is it open on Sundays or on holidays?,yes,1,x\nWhere?,here,2,y\n")
    assert len(found) == 1
    assert notes[0] == (
        "the first row is taken as names, 'Is it open on Sundays or on ho...', 'yes', '1' and "
        "1 more: where it is a row, write a line of names above it"
    )
    assert not any("first row" in note for note in rows("b.csv", "Fråga,Answer\na,b\n")[1])
    Path("folder").mkdir()
    Path("folder/train.csv").write_text("Is it open?,yes\nWhere?,no\n")
    assert open_examples(Path("folder")).notes[0].startswith("the first row is taken as names")
    assert any("first row" in note for note in sheet(("Is it open?", "yes"), ("Where?", "no"))[1])
