"""What a file of rows is as a file: JSON Lines, an array, a table, YAML. Knows no form.

Told from its first bytes; the suffix decides only between tables and text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.engine.data import arrow, headless, lines, tables, wrapped, yaml_files
from harness.engine.data.lines import Row
from harness.engine.data.opening import UTF8_BOM, Opened, checked, opened, shown
from harness.errors import TaskError

HEAD = 1 << 16
PACKINGS = {".gz", ".zst", ".zstd"}
TEXT_ROWS = {".jsonl": "lines", ".ndjson": "lines", ".csv": "table", ".tsv": "table"}


@dataclass(slots=True, kw_only=True)
class Container:
    """One file, and how its rows are got. `kind` is jsonl, json, object, csv, xlsx, ..."""

    path: Path
    kind: str
    shown: str
    notes: tuple[str, ...] = ()
    bytes_total: int = 0
    reader: Callable[[Container], Iterator[Row]]
    source: Opened | None = None
    done: Callable[[], int] | None = None
    sheet: str = ""
    """The sheet of a spreadsheet that was asked for, as FILE.xlsx#SHEET."""
    left: dict[str, int] = field(default_factory=dict)
    """What the file holds beside the rows that are read, in words, and how often it was met."""

    @property
    def bytes_read(self) -> int:
        """How far into the file on disk the reader is."""
        if self.done is not None:
            return self.done()
        return self.source.bytes_read if self.source else 0

    def leave(self, what: str) -> None:
        """Note what is not read: nothing is left out in silence."""
        self.left[what] = self.left.get(what, 0) + 1

    def rows(self) -> Iterator[Row]:
        """Yield the rows from the beginning. Raises TaskError."""
        is_config = self.kind == "jsonl" and self.path.suffix.lower() == ".json"  # on one line
        if self.kind not in {"yaml", "object"} and not is_config:
            return self.reader(self)
        from harness.engine.data.referred import with_files

        return (one for number, row in self.reader(self) for one in with_files(self, number, row))


def file_and_sheet(path: Path) -> tuple[Path, str]:
    """Return a file, and the sheet of it that `FILE.xlsx#SHEET` names; "" for none.

    Source: promptfoo writes sheets so, https://www.promptfoo.dev/docs/configuration/test-cases.
    """
    text = str(path)
    if "#" in text and not path.exists():
        for mark in re.finditer("#", text):
            file, sheet = Path(text[: mark.start()]), text[mark.end() :]
            if sheet and file.is_file():
                return file, sheet
    return path, ""


def container_of(path: Path) -> Container:
    """Return what the file is. Raises TaskError."""
    path, sheet = file_and_sheet(path)
    found = _container_of(path, key=sheet)
    if sheet:
        if found.kind not in {"xlsx", "wrapped"}:
            raise TaskError(
                f"{found.shown}#{sheet}: a sheet, or a list of one JSON object, stands behind #, "
                "and this is no spreadsheet and no such object"
            )
        found.sheet = sheet
    return found


def _container_of(path: Path, *, key: str = "") -> Container:
    if path.is_dir():
        return arrow.folder(path, make=_make) or _text_folder(path)
    total = checked(path)
    with opened(path) as source:
        head = source.file.read(HEAD)
        packing = source.packing
    if not head:
        raise TaskError(f"{shown(path)}:1: the file is empty")
    if head.startswith(b"PK\x03\x04"):
        return tables.zipped(path, make=_make)
    if head.startswith(b"PAR1"):
        return _make(path, "parquet", arrow.parquet_rows, total)
    with opened(path) as source:
        lines.text_only(head, source)
    notes = (f"unpacked from {packing}",) if packing else ()
    suffix = _suffix(path)
    text = head.removeprefix(UTF8_BOM)
    start = text.lstrip()[:1]
    if suffix in {".yaml", ".yml"}:
        return _make(path, "yaml", yaml_files.yaml_rows, total, notes)
    if start == b"[" and suffix in {".jsonl", ".ndjson"} and _is_first_of_rows(text):
        return _make(path, "jsonl", _opened_rows(lines.json_lines), total, notes)
    if start == b"[" and suffix not in {".csv", ".tsv"}:
        return _make(path, "json", _opened_rows(lines.json_array), total, notes)
    if start == b"{" and suffix not in {".csv", ".tsv"}:
        if suffix not in {".jsonl", ".ndjson"} and (inner := _wrapped(path, total, notes, key)):
            return inner
        if suffix == ".jsonl" or _begins_with_a_row(text):
            return _make(path, "jsonl", _opened_rows(lines.json_lines), total, notes)
        return _make(path, "object", _opened_rows(_one_object), total, notes)
    if suffix in {".jsonl", ".ndjson"}:  # its first line is broken, and the reader says how
        return _make(path, "jsonl", _opened_rows(lines.json_lines), total, notes)
    if suffix == ".json":
        return _make(path, "object", _opened_rows(_one_object), total, notes)
    if suffix == ".txt" and headless.is_lines(text, tables.DELIMITERS):
        return _make(path, "text", headless.text_rows, total, notes)
    return _make(path, "csv", tables.csv_rows, total, notes)


def _text_folder(path: Path) -> Container:
    """Return a folder of JSON Lines or CSV files as one set of rows. Raises TaskError.

    Looks where a data set has its files, not in every folder below: somebody may have named a
    whole project.
    """
    below = [f for f in path.iterdir() if f.is_dir() and (f.name == "data" or arrow.split_of(f))]
    found = sorted(
        file
        for folder in (path, *below)
        for file in folder.iterdir()
        if file.is_file() and _suffix(file) in TEXT_ROWS and not file.name.startswith(".")
    )
    if not found or len({TEXT_ROWS[_suffix(file)] for file in found}) > 1:
        why = "JSON Lines beside CSV" if found else "no Parquet, JSON Lines or CSV files"
        raise TaskError(
            f"{shown(path)}: a folder without a data set ({why}, and nothing that `datasets` "
            "saved). Name a file in it"
        )
    sizes = [checked(file) for file in found]

    def rows(container: Container) -> Iterator[Row]:
        for place, file in enumerate(found):
            one, split, before = container_of(file), arrow.split_of(file), sum(sizes[:place])
            container.shown = one.shown
            container.done = lambda one=one, before=before: before + one.bytes_read
            for number, row in one.rows():
                for note in one.notes:
                    tables.tell(container, note)
                if split and isinstance(row, Mapping) and "split" not in row:
                    yield number, {**row, "split": split}
                else:
                    yield number, row

    return _make(path, "dataset", rows, sum(sizes))


def _suffix(file: Path) -> str:
    """Return the suffix that says what is inside, below one that says how it is packed."""
    suffixes = [s.lower() for s in file.suffixes if s.lower() not in PACKINGS]
    return suffixes[-1] if suffixes else ""


def _make(
    path: Path,
    kind: str,
    reader: Callable[[Container], Iterator[Row]],
    total: int = 0,
    notes: tuple[str, ...] = (),
) -> Container:
    return Container(
        path=path, kind=kind, reader=reader, shown=shown(path), notes=notes, bytes_total=total
    )


def _opened_rows(read: Callable[[Opened], Iterator[Row]]) -> Callable[[Container], Iterator[Row]]:
    def rows(container: Container) -> Iterator[Row]:
        with opened(container.path) as source:
            container.source = source
            yield from read(source)

    return rows


def _wrapped(path: Path, total: int, notes: tuple[str, ...], key: str) -> Container | None:
    """Return a file whose one object holds its rows in lists, as one set of rows."""
    found = wrapped.wrapped_in(path, name=shown(path), key=key)
    if found is None:
        return None
    inner = _opened_rows(lambda source: wrapped.wrapped_rows(source, found))
    made = _make(path, "wrapped", inner, total, (*notes, found.note))
    for name in found.rest:
        made.leave(f"the key {name!r} beside the rows")
    return made


def _one_object(source: Opened) -> Iterator[Row]:
    """Yield what a file of one JSON object holds: a row, or rows that a form takes apart."""
    yield 1, lines.json_object(source)


def _begins_with_a_row(head: bytes) -> bool:
    """Whether the first line is a whole JSON value, and so the file JSON Lines."""
    first, end, rest = head.lstrip().partition(b"\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        # a first row longer than the head, or broken: a line that ends in } is a row all the same
        second = rest.lstrip()[:1]
        return bool(not end or (first.rstrip().endswith(b"}") and second in {b"{", b""}))
    return True


def _is_first_of_rows(head: bytes) -> bool:
    """Whether the first line is a whole JSON value, and others follow."""
    first, _, rest = head.lstrip().partition(b"\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return bool(rest.strip())
