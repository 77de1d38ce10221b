"""One JSON object around the rows is taken off, and said; what may be meant otherwise is not."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from harness.core.examples import Example
from harness.engine.data.reading import Reading, open_examples
from harness.errors import TaskError

ROWS = [{"question": f"What is {n} and {n}?", "answer": str(2 * n)} for n in range(6)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(value: Any, *, indent: int | None = None, name: str = "x.json") -> Reading:
    Path(name.partition("#")[0]).write_text(json.dumps(value, indent=indent), encoding="utf-8")
    return open_examples(Path(name))


def answers(found: list[Example]) -> list[Any]:
    return [one.reference for one in found]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("value", "left"),
    [
        ({"version": "1.1", "data": ROWS}, ["the key 'version' beside the rows"]),
        ({"records": ROWS}, []),
        ({"tickets": ROWS, "exported": {"by": "Ann"}}, ["the key 'exported' beside the rows"]),
        (
            {
                "features": [{"name": "question"}],
                "rows": [{"row_idx": n, "row": row} for n, row in enumerate(ROWS)],
            },
            ["the key 'features' beside the rows"],
        ),
    ],
    ids=["usual", "alone", "only", "hub"],
)
def test_the_list_of_rows_in_an_object_is_read_and_what_stands_beside_it_is_named(
    value: Any, left: list[str], indent: int | None
) -> None:
    reading = read(value, indent=indent)
    assert answers(list(reading)) == [row["answer"] for row in ROWS]
    assert reading.form == "columns"
    assert any(note.startswith("unwrapped: the rows are the list") for note in reading.notes)
    assert list(reading.left) == left


def test_lists_with_names_of_splits_give_their_rows_the_split() -> None:
    reading = read({"train": ROWS[:3], "validation": ROWS[3:5], "test": ROWS[5:]}, indent=2)
    found = list(reading)
    assert [e.split for e in found] == ["train"] * 3 + ["dev"] * 2 + ["test"]
    assert [e.place for e in found][:2] == ["x.json:3", "x.json:7"]
    assert "'validation' (2 rows, dev)" in reading.notes[0]


def test_of_several_lists_one_is_named_and_errors_say_how() -> None:
    value = {"open": ROWS[:4], "closed": ROWS[4:]}
    with pytest.raises(TaskError, match=r"x.json:1: .*'open' \(4 objects\).* 'x.json#open'"):
        read(value)
    assert answers(list(read(value, name="x.json#closed"))) == ["8", "10"]
    with pytest.raises(TaskError, match=r"no list of objects 'none' in it. Its lists: 'open'"):
        read(value, name="x.json#none")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"passages": [{"text": "a"}, {"text": "b"}], "question": "c", "answer": "d"},
        {"data": {"text": "a"}, "label": "b"},
    ],
    ids=["a dialogue", "a row with a list", "no list"],
)
def test_an_object_that_is_a_row_stays_one(row: Any) -> None:
    reading = read(row, indent=1)
    assert len(list(reading)) == 1
    assert not any("unwrapped" in note for note in reading.notes)


@pytest.mark.parametrize(
    "table",
    [
        {"question": ["a", "b"], "answer": ["c", "d"]},
        {"question": {"0": "a", "1": "b"}, "answer": {"0": "c", "1": "d"}},
        {"columns": ["question", "answer"], "index": [0], "data": [["a", "c"]]},
    ],
    ids=["lists", "columns", "split"],
)
def test_a_table_by_columns_is_refused_with_the_way_out(table: Any) -> None:
    with pytest.raises(TaskError, match=r"x.json:1: .* by columns.*orient='records'"):
        read(table)


def test_broken_and_empty_objects_say_where_and_an_element_is_one_bad_row() -> None:
    Path("x.json").write_text(json.dumps({"data": ROWS}, indent=1)[:-60], encoding="utf-8")
    with pytest.raises(TaskError, match=r"x.json:2\d: not JSON: .*cut off"):
        open_examples(Path("x.json"))
    with pytest.raises(TaskError, match=r"x.json:1: no rows in it"):
        read({"data": []})
    twice = '{"data": [{"a": "1"}], "data": [{"a": "2"}]}'
    Path("x.json").write_text(twice, encoding="utf-8")
    with pytest.raises(TaskError, match=r"x.json:1: the key 'data' stands twice"):
        open_examples(Path("x.json"))
    reading = read({"data": [ROWS[0], 5, ROWS[1]]})
    assert len(list(reading)) == 2
    assert reading.bad[0].reason == "data_type: a row must be an object, not a number"


def test_lines_of_objects_are_rows_whatever_their_keys() -> None:
    lines = "".join(json.dumps({"data": ROWS[:2], "answer": str(n)}) + "\n" for n in range(3))
    Path("x.json").write_text(lines, encoding="utf-8")
    assert answers(list(open_examples(Path("x.json")))) == ["0", "1", "2"]


def test_a_long_list_is_read_in_flat_memory() -> None:
    row = {"question": "x" * 1000, "answer": "y"}
    body = ",\n".join([json.dumps(row)] * 5_000)
    Path("x.json").write_text('{"data": [\n' + body + "\n]}", encoding="utf-8")
    tracemalloc.start()
    count = sum(1 for _ in open_examples(Path("x.json")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 5_000
    assert peak < 2_500_000  # the file has 5 MB
