"""Rows that wait in a file until the last one came, so that memory stays flat. Knows no suffix."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.engine.data.forms import registry
from harness.engine.data.forms.columns import FIELDS, FORM, reader_of_our_names
from harness.records import Json

FIRST = 64
"""Rows from which it is told how a table without answers is read again."""
ABSENT = "inputs that are absent (they are empty text now)"

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_escaped = json.JSONEncoder(allow_nan=False).encode


def as_line(row: Mapping[str, Json]) -> bytes:
    """Return a row as a line of JSON; half a surrogate pair, which UTF-8 cannot hold, escaped."""
    try:
        return f"{_encode(row)}\n".encode()
    except UnicodeEncodeError:
        return f"{_escaped(row)}\n".encode()


@contextmanager
def waiting(
    rows: Iterator[dict[str, Json]], beside: Path, lost: Counter[str]
) -> Iterator[tuple[list[str], Callable[[], Iterator[dict[str, Json]]]]]:
    """Keep rows in the file `beside` until all columns are known; yield those and what reads the
    rows. The file is removed at the end.
    """
    names: dict[str, int] = {}
    first: list[dict[str, Json]] = []
    count, is_answered = 0, False
    try:
        with beside.open("xb") as file:
            for row in rows:
                count += 1
                if count <= FIRST:
                    first.append(row)
                is_answered = is_answered or row.get("reference") is not None
                for name in row:
                    names[name] = names.get(name, 0) + 1
                file.write(as_line(row))
        inputs = [n for name, n in names.items() if name not in FIELDS and name[:2] != "__"]
        if "reference" in names and not is_answered and _is_told_without(first):
            del names["reference"]
        if short := count - min(inputs, default=count):
            lost[ABSENT] += short

        def again() -> Iterator[dict[str, Json]]:
            with beside.open("rb") as file:
                yield from map(json.loads, file)

        yield _in_order(names), again
    finally:
        beside.unlink(missing_ok=True)


def _is_told_without(first: list[dict[str, Json]]) -> bool:
    """Whether a table with these first rows is read alike without its column `reference`, which
    is empty: it says by another of our names that it has a header, and no column is taken for
    something else then.
    """
    rows = [{name: v for name, v in row.items() if name != "reference"} for row in first]
    if not all(row.keys() & set(FIELDS) for row in rows):
        return False
    form, plan = registry.plan_of(None, rows, {}, container="csv")
    ours = reader_of_our_names(is_table=True)
    try:
        return form == FORM.name and all(plan.parse(row, "") == ours(row, "") for row in rows)
    except ValueError:
        return False


def _in_order(names: Iterable[str]) -> list[str]:
    """Return columns as people read them: id, inputs, answers, then what describes the row."""

    def rank(name: str) -> tuple[int, int]:
        if name in {"id", "reference", "rejected"}:
            return ("id", "", "reference", "rejected").index(name), 0
        return (4, FIELDS.index(name)) if name in FIELDS else (1, 0)

    return sorted(names, key=rank)
