"""Parquet files and data set folders, a batch at a time. Knows no form."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.data.lines import Refusal, Row
from harness.engine.data.opening import shown
from harness.errors import MissingExtra, TaskError
from harness.records import Json

if TYPE_CHECKING:
    from harness.engine.data.containers import Container

Make = Callable[..., "Container"]
BATCH = 1000


def parquet_rows(container: Container) -> Iterator[Row]:
    """Yield the rows of a Parquet file, a batch at a time; nulls are left out, but `reference`."""
    yield from _parquet_files(container, [(container.path, "")])


def _parquet_files(container: Container, files: Sequence[tuple[Path, str]]) -> Iterator[Row]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as exc:
        raise MissingExtra("reading Parquet", extra="parquet") from exc
    number = done = 0
    for path, split in files:
        size, first = path.stat().st_size, number
        try:
            file = parquet.ParquetFile(path)
            rows = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    at = done + size * (number - first) // rows
                    container.done = lambda at=at: at
                    yield number, _arrow_row(row, split)
        except (pa.ArrowException, OSError, OverflowError, ValueError) as exc:
            row = f":{number + 1}" if number > first else ""
            raise TaskError(f"{shown(path)}{row}: the Parquet file is damaged ({exc})") from None
        done += size


def _arrow_row(row: Mapping[str, Any], split: str) -> Json | Refusal:
    try:
        # a column `reference` says that the names are ours: it stays where no row has an answer
        plain = {k: plain_value(v) for k, v in row.items() if v is not None or k == "reference"}
    except ValueError as exc:
        return Refusal(str(exc))
    return plain if not split or "split" in plain else plain | {"split": split}


def plain_value(value: Any) -> Json:
    """Return what Arrow gave as JSON: a struct's fields that are null are left out, because Arrow
    gives each struct the fields of all.
    """
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not JSON")
        return value
    if isinstance(value, Mapping):
        if value.keys() == {"bytes", "path"}:  # an image of `datasets`
            return _image(value)
        return {str(k): plain_value(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    if value is None:
        return None
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        raise ValueError("it holds bytes, which are no JSON")
    return str(value)


def _image(value: Mapping[str, Any]) -> Json:
    import base64

    from harness.engine.images import media_type

    raw = value["bytes"]
    if raw is None:
        return value["path"]
    kind = media_type(raw) or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


SPLIT_OF_FILE = re.compile(r"^(train|validation|valid|dev|test)(?:[-_.]|$)")


def folder(path: Path, *, make: Make) -> Container | None:
    """Return a data set folder: saved by `datasets`, or of Parquet files; None for others."""
    is_saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if is_saved:
        found: Container = make(path, "dataset", _saved_rows, _size(path))
        return found
    files = sorted(path.rglob("*.parquet"))
    if not files:
        return None
    named = [(file, split_of(file)) for file in files]
    return make(path, "dataset", lambda c: _parquet_files(c, named), _size(path))


def split_of(file: Path) -> str:
    """Return the split that a file's name or folder tells, as on the Hugging Face hub; or ""."""
    match = SPLIT_OF_FILE.match(file.name) or SPLIT_OF_FILE.match(file.parent.name)
    return match[1] if match else ""


def _size(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def _saved_rows(container: Container) -> Iterator[Row]:
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as exc:
        raise MissingExtra("reading a data set folder", extra="parquet") from exc
    try:
        loaded = load_from_disk(str(container.path))
    except (OSError, ValueError, KeyError) as exc:
        raise TaskError(f"{container.shown}: the data set cannot be read ({exc})") from None
    parts = loaded.items() if isinstance(loaded, DatasetDict) else [("", loaded)]
    total = max(sum(len(part) for _, part in parts), 1)
    number = 0
    for split, part in parts:
        for batch in part.with_format("arrow").iter(batch_size=BATCH):
            for row in batch.to_pylist():
                number += 1
                share = number / total
                container.done = lambda s=share: int(s * container.bytes_total)
                yield number, _arrow_row(row, split)
