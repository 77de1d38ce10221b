"""The long form: what is read, and what each broken file is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.engine.scores.reading import read_scores
from harness.engine.scores.table import ScoreTable
from harness.errors import UsageError

ROWS = "case,try,score,cluster\na,one,1,d1\nb,one,0,d1\na,two,0.5,\nb,two,,\n"


def table(path: Path, content: str | bytes, name: str = "s.csv") -> ScoreTable:
    file = path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    (found,) = read_scores([str(file)], who="try").tables
    return found


def test_csv_and_json_lines_of_the_same_rows_are_the_same_table(tmp_path: Path) -> None:
    as_csv = table(tmp_path, ROWS)
    head, *body = [line.split(",") for line in ROWS.splitlines()]
    lines = [dict(zip(head, cells, strict=True)) for cells in body]
    lines = [line | {"score": float(line["score"]) if line["score"] else None} for line in lines]
    as_json = table(tmp_path, "\n\n".join(map(json.dumps, lines)), "s.jsonl")
    assert as_csv.cases == as_json.cases == ("a", "b")
    assert as_csv.clusters == as_json.clusters == ("d1", "d1")
    for one, other in zip(as_csv.columns, as_json.columns, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.scores["score"], other.scores["score"])
    assert as_csv.missing("score") == 1


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + ROWS.encode(),
        ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace("case,try,score", " Case , TRY , Score ").encode(),
        ROWS.replace("a,one", '"a",one').encode() + b"\n\n",
    ],
    ids=["byte order mark", "CRLF", "spaces and capitals", "quotes and blank lines"],
)
def test_how_a_spreadsheet_writes_it_does_not_matter(tmp_path: Path, content: bytes) -> None:
    found = table(tmp_path, content)
    assert found.cases == ("a", "b")
    assert found.columns[0].scores["score"].tolist() == [1.0, 0.0]


def test_repeats_are_averaged_and_order_sorts_the_tries(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        "case,try,score,repeat,order\na,late,1,0,2\na,late,0,1,2\na,early,1,,1\n",
    )
    assert [c.name for c in found.columns] == ["early", "late"]
    assert found.columns[1].scores["score"].tolist() == [0.5]
    assert found.columns[1].repeats == 2


def test_a_case_that_one_try_lacks_is_missing_there(tmp_path: Path) -> None:
    found = table(tmp_path, "case,try,score\na,one,1\nb,one,1\na,two,1\n")
    assert np.isnan(found.columns[1].scores["score"]).tolist() == [False, True]
    assert found.missing("score") == 1


def test_unknown_columns_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("case,try,score,colour,notes\na,one,1,red,\n")
    (note,) = read_scores([str(file)], who="try").notes
    assert "colour, notes" in note


BROKEN = {
    "not a number": ("case,try,score\na,one,yes\n", "s.csv:2: score 'yes' is not a number"),
    "a truth": ("case,try,score\na,one,True\n", "write 1 or 0"),
    "NaN": ("case,try,score\na,one,1\nb,one,nan\n", "s.csv:3: score 'nan' is not a finite number"),
    "a percent sign": ("case,try,score\na,one,81%\n", "write a share of 1"),
    "percent": ("case,try,score\na,one,81\n", "s.csv:2: score 81 lies outside [0, 1]: where these"),
    "negative": ("case,try,score\na,one,-0.5\n", "s.csv:2: score -0.5 lies outside"),
    "a second row": ("case,try,score\na,one,1\na,two,1\na,one,1\n", "s.csv:4: case 'a' of 'one'"),
    "two clusters": ("case,try,score,cluster\na,x,1,d\na,y,1,e\n", "cluster 'e' here and 'd'"),
    "two families": (
        "case,try,score,family\na,x,1,rag\nb,x,1,few-shot\n",
        "s.csv:3: 'x' has family",
    ),
    "a family": ("case,try,score,family\na,x,1,magic\n", "s.csv:2: family 'magic' is not one of"),
    "no case": ("case,try,score\n,one,1\n", "s.csv:2: case is empty"),
    "semicolons": ("case;try;score\na;one;1\n", "separated by semicolons"),
    "tabs": ("case\ttry\tscore\na\tone\t1\n", "separated by tabs"),
    "no column": ("case,prompt,score\na,one,1\n", "no column 'try or candidate'"),
    "a misspelt column": ("case,try,scores\na,one,1\n", "Is 'scores' meant as 'score'?"),
    "a cut row": ("case,try,score\na,one,1\nb,on", "s.csv:3: 2 fields for 3 columns"),
    "an open quote": ('case,try,score\n"a,one,1\n', "not CSV"),
    "no rows": ("case,try,score\n", "no scores in it"),
    "nothing": ("", "is empty"),
    "blank": ("\n \n", "is empty"),
    "UTF-16": (ROWS.encode("utf-16"), "is UTF-16: save it as UTF-8"),
    "two encodings": (b"case,try,score\nd\xc3\xa9,one,1\nd\xe9,one,1\n", "s.csv:3: byte 0xe9"),
    "an array": ('[{"case": "a"}]', "is one JSON array"),
    "broken JSON": ('{"case":"a","try":"x","score":1}\n{"case": oops}\n', "s.csv:2: not JSON"),
    "cut JSON": ('{"case":"a","try":"x","score":1}\n{"case":"b","tr', "s.csv:2: the JSON ends too"),
    "JSON without a score": ('{"case":"a","try":"x"}\n', "s.csv:1: no column 'score'"),
    "JSON that is NaN": ('{"case":"a","try":"x","score":NaN}\n', "s.csv:1: score nan is not a fin"),
    "JSON that is true": (
        '{"case":"a","try":"x","score":true}\n',
        "s.csv:1: score True is not a n",
    ),
    "other JSON": ('{"rows": 3}', "an unknown JSON file (its fields: rows)"),
    "bytes": (b"\x00\x01\x02\x00", "is no text"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_one_plain_error_that_says_where(tmp_path: Path, what: str) -> None:
    content, said = BROKEN[what]
    with pytest.raises(UsageError) as error:
        table(tmp_path, content)
    assert said in str(error.value)
    assert error.value.exit_code == 2


def test_a_folder_and_a_missing_file_are_plain_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        read_scores([str(tmp_path)])
    with pytest.raises(UsageError, match="no such file"):
        read_scores([str(tmp_path / "gone.csv")])


def test_rows_that_share_no_cases_do_not_fill_the_memory(tmp_path: Path) -> None:
    rows = "".join(f"c{k},t{k},1\n" for k in range(4000))
    with pytest.raises(UsageError, match="is one of the columns another's"):
        table(tmp_path, "case,try,score\n" + rows)
