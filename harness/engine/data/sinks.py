"""Rows as files: JSON Lines, an array, CSV, XLSX, Parquet, YAML; packed or not. Knows no form.

A table's columns are known only after the last row: its rows wait in a file beside, so that
memory stays flat.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from harness.engine.data import dataset_folders
from harness.engine.data.forms.base import text_of
from harness.engine.data.opening import shown
from harness.engine.data.waiting import Held, as_line, waiting
from harness.errors import MissingExtra, UsageError
from harness.records import Json

SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".xlsx": "xlsx", ".parquet": "parquet", ".yaml": "yaml", ".yml": "yaml",
    ".dataset": "dataset",
}  # fmt: skip
TABLES = {"csv", "tsv", "xlsx", "parquet"}
PACKED = {".gz": "gzip", ".zst": "zstandard"}
BATCH = 1000
LONGEST_CELL = 32767
"""Characters that a cell of a spreadsheet may hold."""
ROWS_OF_A_SHEET = 1_048_576


def kind_of(path: Path, *, form: str, asked: str) -> str:
    """Return as what file `path` is written: its suffix says. Raises UsageError."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    kind = SUFFIXES.get(suffix, "")
    if suffix and not kind:
        raise UsageError(f"{shown(path)}: {suffix} is no suffix of data: {', '.join(SUFFIXES)}")
    wanted = asked if asked in {*TABLES, "jsonl"} else ""
    if wanted and kind and kind != wanted:
        raise UsageError(f"{shown(path)}: --to {asked}, but the name says {suffix}. Name one")
    kind = wanted or kind or ("yaml" if form == "promptfoo" else "jsonl")
    if kind == "yaml" and form != "promptfoo":
        raise UsageError(f"{shown(path)}: {form} is not written as YAML. Write .jsonl or .json")
    if form == "cases" and kind in TABLES:
        raise UsageError(
            f"{shown(path)}: inputs of cases are objects, which no table holds: write .jsonl, or "
            "--to columns"
        )
    if kind in {"xlsx", "parquet", "dataset"} and path.suffix.lower() in PACKED:
        raise UsageError(f"{shown(path)}: {kind} is packed in itself: leave {path.suffix} out")
    if form == "promptfoo" and kind not in {"yaml", "csv", "json", "jsonl"}:
        raise UsageError(f"{shown(path)}: promptfoo reads .yaml, .csv, .json and .jsonl")
    return kind


@contextmanager
def replacing(path: Path, *, kind: str, overwrite: bool) -> Iterator[Path]:
    """Give a file beside `path` to write to; it takes the name at the end, or is removed."""
    if kind == "dataset":
        with dataset_folders.replacing_folder(path) as folder:
            yield folder
        return
    part = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            part.replace(path)
        else:
            try:
                os.link(part, path)  # unlike a rename, never in the place of another file
            except FileExistsError:
                raise UsageError(f"{shown(path)} exists already: --force replaces it") from None
            except OSError:  # a file system without links
                part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def write(
    part: Path,
    rows: Iterator[dict[str, Json]],
    *,
    kind: str,
    final: Path,
    lost: Counter[str],
    fields: Collection[str] = (),
) -> None:
    """Write all rows as a file of `kind`. What a table cannot tell apart is added to `lost`;
    `fields` are columns of it, though no row has them.
    """
    packing = PACKED.get(final.suffix.lower(), "")
    held = partial(waiting, rows, lost=lost, fields=fields)
    if kind == "xlsx":
        _xlsx(part, held)
    elif kind == "parquet":
        _parquet(part, held)
    elif kind == "dataset":
        dataset_folders.write_folder(part, held)
    else:
        with _packed(part, packing) as file:
            if kind in {"csv", "tsv"}:
                _csv(file, part, held, delimiter="\t" if kind == "tsv" else ",")
            elif kind == "yaml":
                _yaml(file, rows)
            elif kind == "json":
                _array(file, rows)
            else:
                for row in rows:
                    file.write(as_line(row))


def through(kind: str, *, is_filled: bool) -> Callable[[Mapping[str, Json]], Mapping[str, Json]]:
    """Return what a row is after it was written as a file of `kind` and read again; `is_filled`:
    an empty cell is read as empty text.
    """
    if kind in {"csv", "tsv", "xlsx"} and not is_filled:
        return lambda row: {k: _cell(v) for k, v in _held(row, kind) if v not in (None, "")}
    if kind in {"csv", "tsv"}:
        return lambda row: {k: _cell(v) for k, v in _held(row, kind)}
    if kind == "xlsx":
        return lambda row: {k: "" if v is None else _typed(v) for k, v in _held(row, kind)}
    if kind == "dataset":
        return dataset_folders.read_back
    if kind == "parquet":
        return lambda row: {k: _typed(v) for k, v in row.items() if v is not None}
    return lambda row: row


def _cell(value: Json) -> str:
    if isinstance(value, str):
        return _whole(value)
    return "" if value is None else _whole(text_of(value))


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""What XML cannot hold, and with it no spreadsheet."""


def _held(row: Mapping[str, Json], kind: str) -> Iterable[tuple[str, Json]]:
    """Return a row's columns and values. Raises ValueError where a table of `kind` cannot hold one
    of them; JSON that stands in a cell has such characters escaped.
    """
    for name, value in row.items():
        for text in (name, value):
            if not isinstance(text, str):
                continue
            if kind != "xlsx" and "\x00" in text:
                raise ValueError("it holds a zero byte, which a table of text cannot")
            if kind == "xlsx" and _CONTROL.search(text):
                raise ValueError(
                    f"{name!r:.80} has control characters, which XLSX cannot hold: write .csv or "
                    ".parquet"
                )
        if kind == "xlsx" and (length := len(_cell(value))) > LONGEST_CELL:
            raise ValueError(
                f"{name!r:.80} has {length} characters, and a cell of XLSX holds {LONGEST_CELL}: "
                "write .csv or .parquet"
            )
    return row.items()


def _typed(value: Json) -> Json:
    """Return what a typed cell holds: lists and objects as JSON text."""
    if isinstance(value, str):
        return _whole(value)
    return value if value is None or isinstance(value, bool | int | float) else _cell(value)


def _whole(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a surrogate pair, which a table cannot") from None
    return text


@contextmanager
def _packed(part: Path, packing: str) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        raw = stack.enter_context(part.open("xb"))
        if packing == "gzip":
            # no time in it: the same rows make the same file
            yield cast(
                BinaryIO, stack.enter_context(gzip.GzipFile("", "wb", 6, fileobj=raw, mtime=0))
            )
        elif packing == "zstandard":
            import zstandard

            yield stack.enter_context(zstandard.ZstdCompressor().stream_writer(raw, closefd=False))
        else:
            buffered = io.BufferedWriter(cast(Any, raw), 1 << 18)
            yield cast(BinaryIO, buffered)
            buffered.flush()


def _array(file: BinaryIO, rows: Iterable[Mapping[str, Json]]) -> None:
    before = b"[\n"
    for row in rows:
        file.write(before + as_line(row)[:-1])
        before = b",\n"
    file.write(b"[]\n" if before == b"[\n" else b"\n]\n")


_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


def _yaml(file: BinaryIO, rows: Iterable[Mapping[str, Json]]) -> None:
    try:
        import yaml
    except ImportError as exc:
        raise MissingExtra("writing YAML", extra="yaml") from exc

    class Dumper(yaml.SafeDumper):
        """Escapes the line ends of Unicode, which come back as blanks where they stand bare."""

    def shown_text(dumper: Any, text: str) -> Any:
        style = '"' if _LINE_ENDS.search(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, shown_text)
    before = "tests:\n"
    for row in rows:
        text = yaml.dump([row], Dumper=Dumper, allow_unicode=True, sort_keys=False, width=100)
        file.write((before + text).encode())
        before = ""
    if before:
        file.write(b"tests: []\n")


# ---------------------------------------------------------------- tables


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.rows")


def _csv(file: BinaryIO, part: Path, held: Held, *, delimiter: str) -> None:
    with held(_beside(part)) as (names, again):
        text = io.TextIOWrapper(cast(IO[bytes], file), encoding="utf-8", newline="")
        table = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        # Python quotes a carriage return from 3.13 on; unquoted, no reader takes it
        quoted = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in chain([dict(zip(names, names, strict=True))], again()):
            cells = [_cell(row.get(name)) for name in names]
            # a row of one empty cell would be a blank line, which readers skip
            (quoted if any("\r" in cell for cell in cells) else table).writerow(cells)
        text.flush()
        text.detach()


def _xlsx(part: Path, held: Held) -> None:
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ImportError as exc:
        raise MissingExtra("writing XLSX", extra="xlsx") from exc
    with (
        held(_beside(part)) as (names, again),
        ExitStack() as stack,
    ):
        book = Workbook(write_only=True)
        sheet = book.create_sheet("rows")
        stack.callback(sheet.close)  # else openpyxl tells of a half-written sheet when it goes
        for number, row in enumerate(chain([dict(zip(names, names, strict=True))], again()), 1):
            if number > ROWS_OF_A_SHEET:
                raise UsageError(f"a sheet holds {ROWS_OF_A_SHEET} rows: write .csv or .parquet")
            cells = []
            for name in names:
                value = _typed(row.get(name))
                cell = WriteOnlyCell(sheet, value)
                if isinstance(value, str):
                    cell.data_type = "s"  # a text that begins with = is no formula
                cells.append(cell)
            sheet.append(cells)
        stack.pop_all()
        book.save(part)


def _parquet(part: Path, held: Held) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as exc:
        raise MissingExtra("writing Parquet", extra="parquet") from exc
    with held(_beside(part)) as (names, again):
        kinds = {name: _column_kind(name, again()) for name in names}
        types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "text": pa.string()}
        schema = pa.schema([(name, types[kinds[name]]) for name in names])
        with parquet.ParquetWriter(part, schema) as writer:
            left = again()
            while batch := list(islice(left, BATCH)):
                table = [
                    {
                        n: _cell(r[n]) if kinds[n] == "text" and r.get(n) is not None else r.get(n)
                        for n in names
                    }
                    for r in batch
                ]
                writer.write_table(pa.Table.from_pylist(table, schema=schema))


def _column_kind(name: str, rows: Iterator[dict[str, Json]]) -> str:
    kinds = set()
    for row in rows:
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool):
            kinds.add("bool")
        elif isinstance(value, int):
            kinds.add("int" if -(2**63) <= value < 2**63 else "text")
        else:
            kinds.add("float" if isinstance(value, float) else "text")
        if len(kinds) > 1 or "text" in kinds:
            return "text"
    return kinds.pop() if kinds else "text"
