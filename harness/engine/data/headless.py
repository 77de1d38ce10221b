"""Tables and texts without a header: told from their first rows, so that the first is not lost.

Decided here: a first row is none where one of its cells comes back in its own column, as a label
does, and none of its other cells is a usual name (`text,spam` above texts that are spam or ham is a
header); and the lines of a .txt file that are no table are rows, each a text. Where nothing tells a
header from a row, it is taken as one, and said.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.core.words import listed
from harness.engine.data.forms.columns import FIELDS, INPUTS
from harness.engine.data.forms.guesses import FURTHER, GUESSES, plain
from harness.engine.data.lines import Refusal, Row, decoded, lines
from harness.engine.data.opening import opened

if TYPE_CHECKING:
    from harness.engine.data.containers import Container

TEXT = "text"
"""What the one column of a file of lines is called."""
NAMES = frozenset({*FIELDS, *INPUTS, TEXT, "word", "words", "question", "prompt", "message"}).union(
    *GUESSES.values(), *FURTHER.values()
)
TIMES = 2
"""How often a cell of the first row comes back in the rows that are looked at."""
NAMED = 3
"""Names that are said."""


def names_without_header(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return names for the columns of a table whose first rows these are; None where the first one
    is its header.
    """
    first, *others = rows or [[]]
    others = [row for row in others if len(row) == len(first) and row != first]
    if first == [str(n) for n in range(len(first))]:  # pandas' own names, and not values
        return None
    usual = {column for column, cell in enumerate(first) if _is_usual(cell)}
    for column, cell in enumerate(first):
        again = sum(row[column].strip() == cell.strip() for row in others)
        if cell.strip() and again >= TIMES and not usual - {column}:
            return [f"column_{n}" for n in range(1, len(first) + 1)]
    return None


def _is_usual(name: str) -> bool:
    """Whether a column may well be called so."""
    return plain(name) in NAMES or name.startswith("__")


def note_of_no_header(names: Sequence[str]) -> str:
    """Return what is said where columns were given names."""
    return f"no header: the columns are called {names[0]} to {names[-1]}"


def note_of_header(names: Sequence[str]) -> str:
    """Return what is said of a first row that is taken as names though none is a usual one."""
    if any(map(_is_usual, names)):
        return ""
    named = [repr(f"{name[:30]}..." if len(name) > 30 else name) for name in names if name]
    more = [f"{len(named) - NAMED} more"] if len(named) > NAMED else []
    return (
        f"the first row is taken as names, {listed([*named[:NAMED], *more])}: where it is a row, "
        "write a line of names above it"
    )


def is_lines(head: bytes, delimiters: str) -> bool:
    """Whether the first lines of a text are no table: no mark stands in all of them equally often,
    and the first is no column's name.
    """
    found = [line for line in head.decode("utf-8", "replace").splitlines()[:50] if line.strip()]
    found = found[:-1] if len(found) > 2 else found  # it may be cut off
    if found and found[0].strip().strip('"').lower() in NAMES:
        return False
    return not any(_is_table(found, mark) for mark in delimiters)


def _is_table(found: Sequence[str], mark: str) -> bool:
    try:
        widths = {len(row) for row in csv.reader(found, delimiter=mark, strict=True)}
    except csv.Error:
        return False
    return len(found) > 1 and len(widths) == 1 and widths != {1}


def text_rows(container: Container) -> Iterator[Row]:
    """Yield the lines of a text that are not blank, each as a row of one column."""
    note = f"no header: each line is a row, its `{TEXT}`"
    container.notes = tuple(dict.fromkeys((*container.notes, note)))
    with opened(container.path) as source:
        container.source = source
        for number, raw in lines(source):
            text = decoded(raw)
            if isinstance(text, Refusal):
                yield number, text
            elif text.strip():
                yield number, {TEXT: text}
