"""What a configuration of promptfoo keeps in other files: tests, default tests and long texts.

Read are files below the configuration's own folder, and no code is run: whatever else a test names
makes it a row that cannot be read, with the reason. Parts of the configuration that are no rows
are noted in the container.
Source: https://www.promptfoo.dev/docs/configuration/test-cases and /docs/configuration/reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.data.lines import MEGABYTE, Refusal, Row
from harness.errors import TaskError
from harness.records import Json

if TYPE_CHECKING:
    from harness.engine.data.containers import Container

SCHEME = "file://"
CODE = {".py", ".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".rb", ".go"}
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}
DATA = {".yaml", ".yml", ".json", ".jsonl", ".csv", ".tsv", ".xlsx"}
LARGEST_TEXT = MEGABYTE
MOST_FILES = 1000
BESIDE = {"prompts": " (--prompt FILE brings one)", "providers": "", "targets": "",
          "scenarios": "", "transform": "", "extensions": "", "env": "", "nunjucksFilters": "",
          "derivedMetrics": ""}  # fmt: skip
"""Parts of a configuration that are no tests, and what brings them."""


def with_files(container: Container, number: int, row: Json) -> Iterator[Row]:
    """Yield a configuration with one test each, what stands in other files put in; any other row
    as it is. Raises TaskError for a registry of OpenAI's evals, whose rows stand elsewhere.
    """
    if not isinstance(row, Mapping):
        yield number, row
        return
    _refuse_registry(container, number, row)
    if "tests" not in row or not row.keys() & {"prompts", "providers", "targets", "defaultTest"}:
        yield number, row
        return
    for key, hint in BESIDE.items():
        if row.get(key):
            value = row[key]
            many = f" ({len(value)})" if isinstance(value, list) and len(value) > 1 else ""
            container.leave(f"the configuration's `{key}`{many}{hint}")
    folder, config = container.path.resolve().parent, dict(row)
    try:
        default = config.get("defaultTest")
        if isinstance(default, str):
            found = [one for path in _paths(default, folder) for one in _tests(path)]
            config["defaultTest"] = found[0] if found else {}
        if isinstance(config.get("defaultTest"), Mapping):
            config["defaultTest"] = _filled(config["defaultTest"], row, folder)
    except (ValueError, TaskError) as exc:
        raise TaskError(f"{container.shown}:{number}: defaultTest: {exc}") from None
    tests = config["tests"]
    for test in tests if isinstance(tests, list) else [tests]:
        try:
            if isinstance(test, str) and (test.startswith(SCHEME) or isinstance(tests, str)):
                several = [one for path in _paths(test, folder) for one in _tests(path)]
            else:
                several = [test]
            ready = [
                _filled(one, row, folder) if isinstance(one, Mapping) else one for one in several
            ]
        except (ValueError, TaskError) as exc:
            yield number, Refusal(str(exc))
            continue
        for one in ready:
            yield number, config | {"tests": [one]}


def _paths(named: str, folder: Path) -> list[Path]:
    """Return the files that a name or a pattern stands for. Raises ValueError."""
    from harness.engine.data.containers import file_and_sheet

    name = named.removeprefix(SCHEME)
    if "://" in name:
        raise ValueError(f"{named}: not on this machine, and nothing is fetched: save it here")
    if "*" in name and not Path(name).is_absolute():
        found = sorted(folder.glob(name))[:MOST_FILES]
    else:
        found = [folder / name]
    for path, _ in map(file_and_sheet, found):
        if path.suffix.lower() in CODE:
            raise ValueError(f"{named}: it is code, and none is run")
        if not path.resolve().is_relative_to(folder):
            raise ValueError(f"{named}: it is outside the configuration's folder: copy it there")
        if not path.is_file():
            raise ValueError(f"{named}: no such file")
    if not found:
        raise ValueError(f"{named}: no file has such a name")
    return found


def _tests(path: Path) -> Iterator[Json]:
    """Yield the tests of another file."""
    from harness.engine.data.containers import container_of
    from harness.engine.data.forms.promptfoo import of_table

    other = container_of(path)
    for number, found in other.reader(other):  # what it names in turn is not followed
        if isinstance(found, Refusal):
            raise ValueError(f"{path.name}:{number}: {found.reason}")
        is_flat = isinstance(found, Mapping) and not found.keys() & {"vars", "tests"}
        row = of_table(found) if is_flat else found
        inner = row.get("tests") if isinstance(row, Mapping) else None
        yield from inner if isinstance(inner, list) else [row]


def _filled(test: Mapping[str, Json], config: Mapping[str, Json], folder: Path) -> dict[str, Json]:
    """Return a test with the texts that its vars name, and the asserts that it refers to."""
    found: dict[str, Any] = dict(test)
    given = found.get("vars")
    if isinstance(given, str) and given.startswith(SCHEME):
        several = [_value(path) for path in _paths(given, folder)]
        given = {k: v for one in several if isinstance(one, Mapping) for k, v in one.items()}
    if isinstance(given, Mapping):
        found["vars"] = {k: _read(v, folder) for k, v in given.items()}
    asserts = found.get("assert")
    if isinstance(asserts, list):
        found["assert"] = [_pointed(one, config) for one in asserts]
    return found


def _read(value: Json, folder: Path) -> Json:
    if isinstance(value, list):
        return [_read(one, folder) for one in value]
    if not isinstance(value, str) or not value.startswith(SCHEME):
        return value
    paths = _paths(value, folder)
    found = [_value(path) if path.suffix.lower() not in PICTURES else
             str(path.relative_to(folder)) for path in paths]  # fmt: skip
    return found[0] if len(found) == 1 else found


def _value(path: Path) -> Json:
    """Return what a file says: data as data, anything else as text."""
    from harness.engine.data.containers import container_of, file_and_sheet

    if file_and_sheet(path)[0].stat().st_size > LARGEST_TEXT:
        raise ValueError(f"{path.name}: more than {LARGEST_TEXT // MEGABYTE} MB for one test")
    if file_and_sheet(path)[0].suffix.lower() in DATA:
        other = container_of(path)
        rows = [row for _, row in other.reader(other)]
        if any(isinstance(row, Refusal) for row in rows):
            raise ValueError(f"{path.name}: it holds rows that cannot be read")
        return rows[0] if len(rows) == 1 else rows
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path.name}: it is no text in UTF-8") from None


def _pointed(one: Json, config: Mapping[str, Json]) -> Json:
    """Return what `$ref: '#/a/b'` points at in the configuration."""
    pointer = one.get("$ref") if isinstance(one, Mapping) else None
    if not isinstance(pointer, str):
        return one
    found: Any = config
    for key in pointer.removeprefix("#/").split("/"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not pointer.startswith("#/") or not isinstance(found, Mapping):
        raise ValueError(f"$ref {pointer!r} points at nothing in the configuration")
    return found


def _refuse_registry(container: Container, number: int, row: Mapping[str, Json]) -> None:
    for value in row.values():
        arguments = value.get("args") if isinstance(value, Mapping) else None
        named = arguments.get("samples_jsonl") if isinstance(arguments, Mapping) else None
        if isinstance(named, str):
            raise TaskError(
                f"{container.shown}:{number}: an entry of the registry of OpenAI's evals, whose "
                f"rows are in {named} (below registry/data): name that file instead"
            )
