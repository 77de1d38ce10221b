"""Rows that wait in a file until the last one came, so that memory stays flat. Knows no suffix."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from harness.engine.data.forms import registry
from harness.engine.data.forms.columns import FIELDS, FORM, reader_of_our_names
from harness.records import Json

FIRST = 64
"""Rows from which it is told how a table without answers is read again."""
ABSENT = "inputs that are absent (they are empty text now)"

Waiting = tuple[list[str], Callable[[], Iterator[dict[str, Json]]]]
"""All columns, and what reads the rows again."""
Held = Callable[[Path], AbstractContextManager[Waiting]]
"""What keeps rows in a file until all columns are known."""

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
    rows: Iterator[dict[str, Json]],
    beside: Path,
    *,
    lost: Counter[str],
    fields: Collection[str] = (),
) -> Iterator[Waiting]:
    """Keep rows in the file `beside` until all columns are known; yield those and what reads the
    rows. The file is removed at the end. `fields` are columns though no row has them.
    """
    names: dict[str, int] = dict.fromkeys(fields, 0)
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
        is_optional = "reference" in names and "reference" not in fields and not is_answered
        if is_optional and _is_told_without(first, names):
            del names["reference"]
        if short := count - min(inputs, default=count):
            lost[ABSENT] += short

        def again() -> Iterator[dict[str, Json]]:
            with beside.open("rb") as file:
                yield from map(json.loads, file)

        yield _in_order(names), again
    finally:
        beside.unlink(missing_ok=True)


def _is_told_without(first: list[dict[str, Json]], names: Collection[str]) -> bool:
    """Whether a table with these first rows and columns is read alike without its column
    `reference`, which is empty: it says by another of our names that it has a header, and no column
    is taken for something else then.
    """
    left = [name for name in names if name != "reference"]
    if not set(left) & set(FIELDS):
        return False
    rows = [{name: row.get(name, "") for name in left} for row in first]
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
