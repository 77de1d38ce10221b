"""Reads Inspect logs without inspect-ai. Knows Inspect's fields only.

A log is `.eval` (a zip of JSON, zstandard-compressed in newer versions) or `.json`: one task and
model. An epoch is a repeat; each scorer is a metric. C is 1, P one half, I and N are 0, as in
Inspect's own accuracy. A sample that ended in an error, or was never run, is missing.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from harness.engine.scores.source import Source, Tasked, fraction, number_of
from harness.engine.scores.table import ScoreRow
from harness.engine.scores.texts import json_object, opened, parsed
from harness.errors import UsageError
from harness.records import digest

ZSTANDARD = 93
LARGEST_ENTRY = 256 * 1024 * 1024
"""Bytes of a header or a sample, unpacked: it is read whole."""
LOCAL_HEADER = struct.Struct("<4s2B4HL2L2H")
LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}

Log = Mapping[str, Any]


def read_zip(source: Source) -> Iterator[Tasked]:
    """Yield the rows of an `.eval` log, a sample at a time. Raises UsageError."""
    with _zipped(source) as (log, samples):
        yield from _rows(log, samples, source)


def zipped_samples(source: Source) -> Iterator[tuple[str, bytes]]:
    """Yield the samples of an `.eval` log, by name, as they stand in it. Raises UsageError."""
    with _archive(source) as (file, archive):
        for name in _samples(archive):
            yield name, _content(archive, file, name, source)


@contextmanager
def _zipped(source: Source) -> Iterator[tuple[Log, Iterator[Any]]]:
    with _archive(source) as (file, archive):
        log = _json(archive, file, "header.json", source)
        yield log, (_json(archive, file, name, source) for name in _samples(archive))


def _samples(archive: zipfile.ZipFile) -> Iterator[str]:
    return (name for name in archive.namelist() if name.startswith("samples/"))


@contextmanager
def _archive(source: Source) -> Iterator[tuple[BinaryIO, zipfile.ZipFile]]:
    with opened(source.path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError):
            raise UsageError(
                f"{source.shown}: the zip file is damaged or was cut off: copy it again"
            ) from None
        names = set(archive.namelist())
        if "header.json" not in names:
            what = "the run was cut off" if "_journal/start.json" in names else "not Inspect's"
            raise UsageError(f"{source.shown}: no header.json in it: {what}")
        yield file, archive


def read_json(source: Source) -> Iterator[Tasked]:
    """Yield the rows of a `.json` log. Raises UsageError."""
    log = json_object(source.path)
    yield from _rows(log, iter(log.get("samples") or ()), source)


def name_of(log: Log) -> tuple[str, str]:
    """Return the task, and the candidate as model and task arguments tell it."""
    spec = log.get("eval") or {}
    told = spec.get("task_args_passed") or spec.get("task_args") or {}
    parts = [str(spec.get("model") or ""), *(f"{k}={v}" for k, v in told.items())]
    return str(spec.get("task") or ""), " ".join(p for p in parts if p)


def header(source: Source) -> Log:
    """Return a log's header alone. Raises UsageError."""
    if source.path.suffix == ".json":
        return json_object(source.path)
    with opened(source.path) as file:
        try:
            found: Log = _json(zipfile.ZipFile(file), file, "header.json", source)
            return found
        except (zipfile.BadZipFile, KeyError):
            return {}  # reading the rows says what is wrong


def _rows(log: Log, samples: Iterator[Any], source: Source) -> Iterator[Tasked]:
    spec = log.get("eval") or {}
    task, _ = name_of(log)
    order = number_of(str(spec.get("created") or ""))
    scorers = [str(s.get("name")) for s in spec.get("scorers") or () if s.get("name")]
    if log.get("status") not in (None, "success"):
        source.notes.append(f"{source.shown}: the run ended with status {log['status']!r}")
    metrics: dict[str, None] = {}
    ran: set[tuple[str, str]] = set()
    gone: list[ScoreRow] = []
    for number, sample in enumerate(samples, start=1):
        if not isinstance(sample, dict) or "id" not in sample:
            raise UsageError(f"{source.shown}:{number}: not a sample of Inspect")
        metadata = sample.get("metadata") or {}
        row = ScoreRow(
            line=number,
            case=str(sample["id"]),
            who=source.name,
            metric="",
            score=None,
            repeat=str(sample.get("epoch", 1)),
            cluster=str(metadata.get("cluster") or ""),
            slice=str(metadata.get("slice") or ""),
            model=str(spec.get("model") or ""),
            order=order,
            content=digest(sample.get("target")),
        )
        ran.add((row.case, row.repeat))
        values = _values(sample.get("scores") or {})
        if not values:
            gone.append(row)
            continue
        reply: str | None = digest(_texts(sample.get("output") or {}))
        for name, value in values.items():
            metrics.setdefault(name)
            score = fraction(_number(value), name, source=source)
            yield task, row._replace(metric=name, score=score, reply=reply)
            reply = None
    if not ran:
        raise UsageError(f"{source.shown}: no samples in it: run with --log-samples")
    for row in gone:  # an error: whatever the other samples are scored by is missing here
        for name in metrics or scorers:
            yield task, row._replace(metric=name)
    planned = [str(i) for i in (spec.get("dataset") or {}).get("sample_ids") or ()]
    epochs = int((spec.get("config") or {}).get("epochs") or 1)
    never = [i for i in planned if not any((i, str(e)) in ran for e in range(1, epochs + 1))]
    for case in never:
        for name in metrics or scorers:
            yield task, ScoreRow(0, case, source.name, name, None, order=order)
    if gone or never:
        source.notes.append(
            f"{source.shown}: {len(gone)} samples ended in an error and {len(never)} were never "
            "run: missing, not failed"
        )


def _values(scores: Log) -> dict[str, Any]:
    """Return a figure a metric; a scorer that gives several has a metric each."""
    found: dict[str, Any] = {}
    for name, score in scores.items():
        value = score.get("value") if isinstance(score, Mapping) else score
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": part for key, part in value.items()}
        elif isinstance(value, list):
            found |= {f"{name}.{k}": part for k, part in enumerate(value)}
        else:
            found[name] = value
    return found


def _number(value: Any) -> Any:
    """Return what Inspect's value_to_float makes of a value; None where it is no number."""
    if not isinstance(value, str):
        return value
    if value in LETTERS or value.lower() in WORDS:
        return LETTERS.get(value, WORDS.get(value.lower()))
    try:
        return float(value)
    except ValueError:
        return math.nan


def _texts(output: Log) -> list[Any]:
    return [(c.get("message") or {}).get("content") for c in output.get("choices") or ()]


def _json(archive: zipfile.ZipFile, file: BinaryIO, name: str, source: Source) -> Any:
    return parsed(_content(archive, file, name, source), place=f"{source.shown}:{name}")


def _content(archive: zipfile.ZipFile, file: BinaryIO, name: str, source: Source) -> bytes:
    place, entry = f"{source.shown}:{name}", archive.getinfo(name)
    if entry.file_size > LARGEST_ENTRY:
        raise UsageError(
            f"{place}: it unpacks to {entry.file_size >> 20} MB, more than one part of a log "
            f"should ({LARGEST_ENTRY >> 20} MB)"
        )
    try:
        return _bytes(archive, file, entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, OSError, RuntimeError) as exc:
        # RuntimeError: locked with a password, or packed in a way that zipfile does not know
        raise UsageError(f"{place}: damaged ({exc}): copy the log again") from None


def _bytes(archive: zipfile.ZipFile, file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """Return an entry's content; zipfile reads zstandard from Python 3.14 on only."""
    if entry.compress_type != ZSTANDARD or sys.version_info >= (3, 14):
        return archive.read(entry)
    import zstandard

    file.seek(entry.header_offset)
    head = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    file.seek(head[-2] + head[-1], 1)  # past the name and the extra field
    packed = io.BytesIO(file.read(entry.compress_size))
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        content = reader.read(entry.file_size + 1)  # no more than the log says: it may be a bomb
    except zstandard.ZstdError as exc:
        raise zipfile.BadZipFile(str(exc)) from None
    if zlib.crc32(content) != entry.CRC:
        raise zipfile.BadZipFile("its checksum is wrong")
    return content
