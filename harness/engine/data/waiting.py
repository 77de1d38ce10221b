"""Rows that wait in a file until the last one came, so that memory stays flat. Knows no form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.engine.data.forms.columns import FIELDS
from harness.records import Json

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
    count = 0
    try:
        with beside.open("xb") as file:
            for row in rows:
                count += 1
                for name in row:
                    names[name] = names.get(name, 0) + 1
                file.write(as_line(row))
        inputs = [n for name, n in names.items() if name not in FIELDS and name[:2] != "__"]
        if short := count - min(inputs, default=count):
            lost[ABSENT] += short

        def again() -> Iterator[dict[str, Json]]:
            with beside.open("rb") as file:
                yield from map(json.loads, file)

        yield _in_order(names), again
    finally:
        beside.unlink(missing_ok=True)


def _in_order(names: Iterable[str]) -> list[str]:
    """Return columns as people read them: id, inputs, answers, then what describes the row."""

    def rank(name: str) -> tuple[int, int]:
        if name in {"id", "reference", "rejected"}:
            return ("id", "", "reference", "rejected").index(name), 0
        return (4, FIELDS.index(name)) if name in FIELDS else (1, 0)

    return sorted(names, key=rank)
