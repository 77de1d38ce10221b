"""Tables that people make, CSV and XLSX, and logs in zip files. Knows no form."""

from __future__ import annotations

import codecs
import csv
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.words import count
from harness.engine.data.headless import names_without_header, note_of_header, note_of_no_header
from harness.engine.data.lines import MEGABYTE, Refusal, Row, decoded, text_only
from harness.engine.data.opening import BROKEN_ZIP, Opened, broken_files, opened, shown
from harness.engine.text_files import LONGEST_ROW
from harness.errors import TaskError

if TYPE_CHECKING:
    from harness.engine.data.containers import Container

Make = Callable[..., "Container"]
DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(rb"(?:\xef\xbb\xbf)?sep=([,;\t|])\r?\n", re.IGNORECASE)
"""A first line that tells Excel the separator, and is no header."""
LARGEST_SHEET = 512 * MEGABYTE
"""Bytes that a spreadsheet may have when it is unpacked."""


# ---------------------------------------------------------------- CSV


def csv_rows(container: Container) -> Iterator[Row]:
    """Yield the rows of a CSV file under its header; the separator is told from the first lines.

    A row's number is that of its last line where a cell has several.
    """
    with opened(container.path) as source:
        container.source = source
        head = source.file.read(1 << 16)
    text_only(head, source)
    with opened(container.path) as source:
        container.source = source
        delimiter = _delimiter(head, is_tab=container.path.name.lower().endswith((".tsv", ".tab")))
        wrong: list[str] = []
        reader = csv.reader(_text_lines(source, wrong), delimiter=delimiter, strict=True)
        csv.field_size_limit(LONGEST_ROW)
        if _SEPARATOR.match(head):
            next(reader)  # and its line counts
        names = _without_header(container, head, delimiter)
        if names is None:
            names = _header(container, reader)
            if wrong:
                raise TaskError(f"{container.shown}:1: {wrong[0]}. Save it as UTF-8")
            tell(container, note_of_header(names))
        nameless = [at for at, name in enumerate(names) if not name]
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as exc:
                raise TaskError(
                    f"{container.shown}:{reader.line_num}: not CSV: {_plainer(str(exc))}"
                ) from None
            if wrong:
                yield reader.line_num, Refusal(wrong.pop())
                wrong.clear()
            elif not any(cells):
                continue
            elif len(cells) != len(names):
                yield (
                    reader.line_num,
                    Refusal(
                        f"{count(len(cells), 'cell')}, and the header has "
                        f"{count(len(names), 'column')}"
                    ),
                )
            else:
                row = dict(zip(names, cells, strict=True))
                if nameless:
                    row.pop("", None)
                    tell_nameless(container, [at for at in nameless if cells[at]])
                yield reader.line_num, row


def _plainer(text: str) -> str:
    if "unexpected end of data" in text:
        return "a quoted cell is not closed (was the file cut off?)"
    if "new-line character" in text:
        return "a line ends with CR alone, as on old Macs: save it with other line ends"
    if "field larger" in text:
        return f"a cell of more than {LONGEST_ROW // MEGABYTE} MB (is a quote not closed?)"
    return text


def _text_lines(source: Opened, wrong: list[str]) -> Iterator[str]:
    """Yield lines with their ends; bytes that are not UTF-8 are told in `wrong`, and replaced."""
    number = 0
    while raw := source.file.readline(LONGEST_ROW + 1):
        number += 1
        if len(raw) > LONGEST_ROW:
            raise TaskError(
                f"{source.shown}:{number}: the line is longer than {LONGEST_ROW // MEGABYTE} MB"
            )
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as exc:
            wrong.append(
                f"byte {exc.start + 1} of line {number}, {raw[exc.start]:#04x}, is not UTF-8: the "
                "file is in another encoding, or mixes two"
            )
            yield raw.decode("utf-8", "replace")


def _delimiter(head: bytes, *, is_tab: bool) -> str:
    """Return the separator: what splits the first lines into the most columns, all alike."""
    if told := _SEPARATOR.match(head):
        return told[1].decode()
    if is_tab:
        return "\t"
    best, most = ",", 1
    for mark in DELIMITERS:
        try:
            rows = _first_rows(head, mark)
        except csv.Error:
            continue
        widths = [len(row) for row in rows]
        if widths and widths[0] > most and widths.count(widths[0]) >= 0.8 * len(widths):
            best, most = mark, widths[0]
    return best


def _without_header(container: Container, head: bytes, delimiter: str) -> list[str] | None:
    """Return names for the columns of a table that has no header, and say so; None where it has."""
    try:
        found = names_without_header(_first_rows(head, delimiter))
    except csv.Error:  # the reader says what is wrong
        return None
    if found is not None:
        tell(container, note_of_no_header(found))
    return found


def tell(container: Container, note: str) -> None:
    """Say something of the file, once; "" is nothing."""
    if note:
        container.notes = tuple(dict.fromkeys((*container.notes, note)))


def _first_rows(head: bytes, delimiter: str) -> list[list[str]]:
    """Return the first rows of a table, without one that is cut off. Raises csv.Error."""
    start = told.end() if (told := _SEPARATOR.match(head)) else 0
    text = head[start:].removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    rows = [r for r in csv.reader(text.splitlines(keepends=True)[:50], delimiter=delimiter) if r]
    return rows[:-1] if len(rows) > 2 and len(head) == 1 << 16 else rows


def _header(container: Container, reader: Any) -> list[str]:
    try:
        names = [name.strip() for name in next(reader)]
    except StopIteration:
        raise TaskError(f"{container.shown}:1: the file is empty") from None
    except csv.Error as exc:
        raise TaskError(f"{container.shown}:1: not CSV: {_plainer(str(exc))}") from None
    return checked_header(names, f"{container.shown}:{reader.line_num}")


def checked_header(names: list[str], place: str) -> list[str]:
    """Return column names, "" for those without. Raises TaskError where one stands twice, or there
    is none.
    """
    for name in names:
        if name and names.count(name) > 1:
            raise TaskError(f"{place}: the column {name!r} stands twice in the header")
    if not any(names):
        raise TaskError(f"{place}: the header is empty")
    return names


def tell_nameless(container: Container, columns: Sequence[int]) -> None:
    """Say that these columns, by position, hold something under no name: nobody can ask for it."""
    for at in columns:
        container.leave(f"column {at + 1}, which has no name in the header")


# ---------------------------------------------------------------- XLSX, Inspect logs


def zipped(path: Path, *, make: Make) -> Container:
    """Return a spreadsheet or an Inspect log. Raises TaskError for another zip file."""
    name, total = shown(path), path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {e.filename: e.file_size for e in archive.infolist()}
            is_locked = any(e.flag_bits & 1 for e in archive.infolist())
    except BROKEN_ZIP:
        raise TaskError(f"{name}: the zip file is damaged or was cut off: copy it again") from None
    if is_locked:
        raise TaskError(f"{name}: the zip file is locked with a password: unpack it first")
    if "header.json" in entries or "_journal/start.json" in entries:
        return make(path, "inspect", _inspect_rows, total)
    if "xl/workbook.xml" not in entries:
        raise TaskError(f"{name}: a zip file that is no spreadsheet: unpack it first")
    size = sum(entries.values())
    strings = entries.get("xl/sharedStrings.xml", 0)
    if size > LARGEST_SHEET or strings > LARGEST_SHEET // 4:
        raise TaskError(
            f"{name}: it unpacks to {size // MEGABYTE} MB, more than a spreadsheet should "
            f"({LARGEST_SHEET // MEGABYTE} MB). Save it as CSV"
        )
    return make(path, "xlsx", xlsx_rows, total)


def _inspect_rows(container: Container) -> Iterator[Row]:
    from harness.engine.data.faults import sample_of
    from harness.engine.scores.inspect_log import zipped_samples
    from harness.engine.scores.source import Source

    source = Source(path=container.path, shown=container.shown)
    for number, (name, content) in enumerate(zipped_samples(source), start=1):
        text = decoded(content)
        found = text if isinstance(text, Refusal) else sample_of(text)
        yield number, Refusal(f"{name}: {found.reason}") if isinstance(found, Refusal) else found


def xlsx_rows(container: Container) -> Iterator[Row]:
    """Yield the rows of the first sheet that holds a table; empty ones are left out."""
    from harness.engine.data.huge_cells import refuse_huge_cells
    from harness.engine.data.sheets import sheet_rows

    _no_entities(container)
    with broken_files(container.shown), zipfile.ZipFile(container.path) as archive:
        refuse_huge_cells(archive, name=container.shown.removesuffix(f"#{container.sheet}"))
    return sheet_rows(container)


def _no_entities(container: Container) -> None:
    """Refuse XML that defines entities: no spreadsheet program writes any, and bombs do."""
    with zipfile.ZipFile(container.path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith((".xml", ".rels")):
                with broken_files(container.shown), archive.open(entry) as file:
                    if b"<!DOCTYPE" in file.read(4096):
                        raise TaskError(
                            f"{container.shown}: {entry.filename} defines XML entities, which no "
                            "spreadsheet has: it is not read"
                        )
