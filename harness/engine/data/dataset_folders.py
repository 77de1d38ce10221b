"""Writes rows as a folder that `datasets` saved, for trainers to load. Knows no form.

Lists and objects stay what they are; a column whose values Arrow cannot hold as one type is
refused. Rows that name their split become the parts of a `DatasetDict`.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from harness.engine.data.arrow import plain_value
from harness.engine.data.opening import shown
from harness.engine.data.waiting import Held
from harness.errors import MissingExtra, UsageError
from harness.records import Json

BATCH = 1000
Rows = Iterator[dict[str, Json]]


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a folder beside `path` to write to; it takes the name at the end, or is removed."""
    part = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    part.mkdir()
    try:
        yield part
        try:
            part.rename(path)
        except OSError:
            raise UsageError(f"{shown(path)} exists already: name another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_back(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return what is read of a row that was written: what is null is absent."""
    return {key: _without_nulls(value) for key, value in row.items() if value is not None}


def _without_nulls(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(one) for one in value]
    return value


def write_folder(part: Path, held: Held) -> None:
    """Save all rows that wait in the folder `part`. Raises UsageError for a column of mixed
    values.
    """
    try:
        import pyarrow as pa
        from datasets import Dataset, DatasetDict
        from datasets.utils import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
    except ImportError as exc:
        raise MissingExtra("writing a data set folder", extra="parquet") from exc
    beside = part / ".arrow"
    beside.mkdir()
    were_shown = not are_progress_bars_disabled()
    disable_progress_bars()  # ours is on the screen
    try:
        with held(beside / "rows") as (names, again):
            splits = _splits(again())
            columns = [n for n in names if n != "split" or not splits]
            schema = pa.schema([(n, _type_of(n, again)) for n in columns])
            parts = {}
            for number, split in enumerate(splits or [""]):
                file = beside / f"{number}.arrow"
                chosen = (r for r in again() if not splits or r["split"] == split)
                _stream(file, chosen, schema)
                parts[split] = Dataset.from_file(str(file))
            saved = DatasetDict(parts) if splits else parts[""]
            saved.save_to_disk(str(part))
            del saved, parts
    finally:
        if were_shown:
            enable_progress_bars()
    shutil.rmtree(beside)


def _splits(rows: Iterable[Mapping[str, Json]]) -> list[str]:
    """Return the splits of the rows, in their order; none where a row names no usual one."""
    found: dict[str, None] = {}
    for row in rows:
        split = row.get("split")
        if not isinstance(split, str) or not split.isidentifier():
            return []
        found[split] = None
    return list(found)


def _type_of(name: str, again: Callable[[], Rows]) -> Any:
    """Return the Arrow type that holds every value of a column as it is. Raises UsageError."""
    import pyarrow as pa

    found = pa.null()
    try:
        for values in _batches(name, again()):
            one = pa.schema([(name, pa.infer_type(values))])
            found = pa.unify_schemas([pa.schema([(name, found)]), one]).field(0).type
        for values in _batches(name, again()):
            back = [_without_nulls(plain_value(v)) for v in pa.array(values, found).to_pylist()]
            if back != [_without_nulls(v) for v in values]:
                raise pa.ArrowInvalid("a value would be changed")
    except (pa.ArrowException, OverflowError) as exc:
        raise UsageError(
            f"column {name!r} holds values of different kinds, and one of a data set folder has "
            f"one type ({' '.join(str(exc).split())[:150]}): write .jsonl"
        ) from None
    return found


def _batches(name: str, rows: Rows) -> Iterator[list[Json]]:
    while batch := list(islice(rows, BATCH)):
        yield [row.get(name) for row in batch]


def _stream(file: Path, rows: Rows, schema: Any) -> None:
    import pyarrow as pa

    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(islice(rows, BATCH)):
            full = [{name: row.get(name) for name in schema.names} for row in batch]
            writer.write_table(pa.Table.from_pylist(full, schema=schema))
