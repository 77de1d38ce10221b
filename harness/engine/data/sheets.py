"""The rows of a spreadsheet, as its person sees them. Knows no form.

Decided here: which sheet where none was named, which row is the header, what merged cells say.
Whatever is passed over (other sheets, lines above the header, formulas without a value) is noted in
the container.
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from harness.engine.data.headless import (
    names_without_header,
    note_of_header,
    note_of_no_header,
)
from harness.engine.data.lines import MEGABYTE, Row
from harness.engine.data.opening import broken_files
from harness.engine.data.tables import checked_header, tell, tell_nameless
from harness.errors import MissingExtra, TaskError
from harness.records import Json

if TYPE_CHECKING:
    from harness.engine.data.containers import Container

FIRST = 20
"""Filled rows among which the header is looked for."""
MOST_MERGED = 10_000
LARGEST_MERGED = 64 * MEGABYTE
"""Bytes of a sheet's XML up to which merged cells are looked for: they stand at its end."""

Numbered = tuple[int, list[Json]]


def sheet_rows(container: Container) -> Iterator[Row]:
    """Yield the rows of the sheet that was named, else of the first that holds a table.

    Raises TaskError.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as exc:
        raise MissingExtra("reading XLSX", extra="xlsx") from exc
    try:
        with broken_files(container.shown):
            book = load_workbook(container.path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, SyntaxError) as exc:
        raise TaskError(f"{container.shown}: not a spreadsheet that can be read ({exc})") from None
    try:
        with broken_files(container.shown):
            if not book.worksheets:
                raise TaskError(f"{container.shown}: no sheet in it")
            if container.sheet:
                sheet = _named(container, book.worksheets)
            else:
                sheet = _chosen(sorted(book.worksheets, key=_is_hidden))
                _tell_others(container, sheet, book.worksheets)
            yield from _table(container, sheet)
    except SyntaxError as exc:  # what XML parsers raise
        raise TaskError(f"{container.shown}: the spreadsheet is damaged ({exc})") from None
    finally:
        book.close()


def _filled(sheet: Any) -> Iterator[Numbered]:
    """Yield the rows that say anything, with their numbers."""
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        values = [cell_value(v) for v in cells]
        if any(v != "" for v in values):
            yield number, values


def _named(container: Container, sheets: Sequence[Any]) -> Any:
    """Return the sheet of this name, or the one of this number, from 1; errors in its rows name it.

    Raises TaskError where there is none.
    """
    file = container.shown.removesuffix(f"#{container.sheet}")
    wanted = container.sheet.strip().casefold()
    found = [s for s in sheets if s.title == container.sheet]
    found += [s for s in sheets if s.title.strip().casefold() == wanted]
    if wanted.isdecimal() and 0 < int(wanted) <= len(sheets):
        found.append(sheets[int(wanted) - 1])
    if not found:
        titles = ", ".join(repr(s.title) for s in sheets)
        raise TaskError(f"{file}: no sheet {container.sheet!r}. Its sheets: {titles}")
    container.sheet = found[0].title
    container.shown = f"{file}#{container.sheet}"
    return found[0]


def _is_hidden(sheet: Any) -> bool:
    return bool(sheet.sheet_state != "visible")


def _tell_others(container: Container, sheet: Any, sheets: Sequence[Any]) -> None:
    """Note the sheets that are not read, and how to name them."""
    others = [s.title for s in sheets if s is not sheet]
    for title in others:
        container.leave(f"the sheet {title!r} (named as '{container.shown}#{title}')")
    if others:
        note = f"read from the sheet {sheet.title!r} of {len(sheets)}"
        container.notes = tuple(dict.fromkeys((*container.notes, note)))


def _chosen(sheets: Sequence[Any]) -> Any:
    """Return the first sheet with two columns and a row below their header, else the first with
    two rows: a sheet of explanations often comes first.
    """
    several = None
    for sheet in sheets:
        head = list(islice(_filled(sheet), FIRST))
        if len(head) > 1 and max(_many(values) for _, values in head) > 1:
            return sheet
        several = several or (sheet if len(head) > 1 else None)
    return several or sheets[0]


def _many(values: Sequence[Json]) -> int:
    return sum(v != "" for v in values)


def _table(container: Container, sheet: Any) -> Iterator[Row]:
    total, at = sheet.max_row or 0, [0]
    container.done = lambda: container.bytes_total * at[0] // max(total, 1)
    rows = _filled(sheet)
    head = list(islice(rows, FIRST))
    if not head:
        return
    merged = Merged(container, sheet)
    start = _header_at(head, merged)
    if start:
        above = "the line" if start == 1 else f"the {start} lines"
        container.leave(f"{above} above the header, which is row {head[start][0]}")
    names = _without_header(head) if start == 0 else None
    if names is not None:
        tell(container, note_of_no_header(names))
        start = -1
    else:
        number, values = head[start]
        while values and values[-1] == "":
            values.pop()
        names = checked_header([str(v).strip() for v in values], f"{container.shown}:{number}")
        tell(container, note_of_header(names))
    nameless = [n for n, name in enumerate(names) if not name]
    _tell_formulas(container, sheet, names, head[start + 1 :])
    for number, cells in chain(head[start + 1 :], rows):
        at[0] = number
        merged.fill(number, cells)
        if beyond := [n for n in range(len(names), len(cells)) if cells[n] != ""]:
            tell_nameless(container, beyond)
        padded = cells[: len(names)] + [""] * (len(names) - len(cells))
        row = dict(zip(names, padded, strict=True))
        if nameless:
            row.pop("", None)
            tell_nameless(container, [n for n in nameless if padded[n] != ""])
        yield number, row


def _without_header(head: Sequence[Numbered]) -> list[str] | None:
    """Return names for the columns of a sheet whose first row is none of names; else None."""
    width = max((n for _, values in head for n, v in enumerate(values, 1) if v != ""), default=0)
    rows = [[str(v) for v in values[:width]] for _, values in head]
    return names_without_header([row + [""] * (width - len(row)) for row in rows])


def _header_at(head: Sequence[Numbered], merged: Merged) -> int:
    """Return which of the first rows is the header: the first one of texts alone, none of them over
    several columns, that fills more than half of the columns that any row fills. So a title and a
    line of groups are passed over.
    """
    width = max(_many(values) for _, values in head)
    for at, (number, values) in enumerate(head[:-1]):
        is_text = all(isinstance(v, str) for v in values)
        if is_text and 2 * _many(values) > width and not merged.is_over_columns(number):
            return at
    return 0


def _tell_formulas(
    container: Container, sheet: Any, names: Sequence[str], head: Sequence[Numbered]
) -> None:
    """Note columns that are empty in the first rows because nobody computed their formulas: a
    spreadsheet program writes what they come to, a script that makes a file does not.
    """
    from openpyxl import load_workbook

    empty = [
        n for n, name in enumerate(names)
        if name and head and all(n >= len(values) or values[n] == "" for _, values in head)
    ]  # fmt: skip
    if not empty:
        return
    book = load_workbook(container.path, read_only=True)
    try:
        numbers = {number for number, _ in head}
        rows = enumerate(book[sheet.title].iter_rows(values_only=True), start=1)
        for number, cells in islice(rows, max(numbers)):
            for n in empty if number in numbers else ():
                if n < len(cells) and str(cells[n] or "").startswith("="):
                    container.left[
                        f"the formulas of the column {names[n]!r}, which hold no value: open the "
                        "file in a spreadsheet program and save it"
                    ] = 1
    finally:
        book.close()


class Merged:
    """Merged cells below one another or side by side: all of them say what their first one does."""

    def __init__(self, container: Container, sheet: Any) -> None:
        self._starts: dict[int, list[tuple[int, int, int]]] = {}
        self._held: list[tuple[int, int, int, Json]] = []
        for first, last in _ranges(container, sheet):
            (top, left), (bottom, right) = first, last
            self._starts.setdefault(top, []).append((left, right, bottom))

    def is_over_columns(self, number: int) -> bool:
        """Whether a row has a cell that stands over several columns."""
        return any(right > left for left, right, _ in self._starts.get(number, ()))

    def fill(self, number: int, cells: list[Json]) -> None:
        """Fill the cells of a row that belong to a merged one."""
        self._held = [one for one in self._held if one[2] >= number]
        for left, right, bottom in self._starts.get(number, ()):
            if left < len(cells) and cells[left] != "":
                self._held.append((left, right, bottom, cells[left]))
        for left, right, _, value in self._held:
            for column in range(left, min(right + 1, len(cells))):
                cells[column] = cells[column] if cells[column] != "" else value


_RANGE = re.compile(rb'<(?:\w+:)?mergeCell ref="([A-Z]+)(\d+):([A-Z]+)(\d+)"')


def _ranges(container: Container, sheet: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the merged ranges of a sheet, as first and last cell by row (from 1) and column (from
    0): reading row by row, openpyxl does not tell them.
    """
    from openpyxl.utils import column_index_from_string

    path = str(getattr(sheet, "_worksheet_path", "")).lstrip("/")
    with zipfile.ZipFile(container.path) as archive:
        if path not in archive.namelist() or archive.getinfo(path).file_size > LARGEST_MERGED:
            return
        found = _RANGE.findall(archive.read(path))[:MOST_MERGED]
    for left, top, right, bottom in found:
        columns = [column_index_from_string(c.decode()) - 1 for c in (left, right)]
        yield (int(top), columns[0]), (int(bottom), columns[1])


def cell_value(value: Any) -> Json:
    """Return a cell's value as JSON; empty ones as empty text, dates as ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime | dt.date | dt.time):
        text = value.isoformat()
        return text.removesuffix("T00:00:00")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, str | int | float | bool) else str(value)
