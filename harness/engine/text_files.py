"""Files that people write: UTF-8 text, TOML, JSON Lines. Knows nothing of what they say.

Every error names the file and the line.
"""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.core.toml_errors import line_and_words
from harness.errors import TaskError
from harness.records import Json

DEEPEST = 100
"""Levels of lists and objects that a row may hold; what is deeper is a mistake, or an attack."""

_GZIP = b"\x1f\x8b"
LONGEST_ROW = 32 * 1024 * 1024
"""Bytes that one row may have: a row with some images fits, a file without line ends does not."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds. Raises TaskError with file and line."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        line, what = line_and_words(exc, text)
        raise TaskError(f"{path}:{line}: not TOML: {what}") from exc


def json_lines(path: Path) -> Iterator[tuple[str, Json]]:
    """Yield `file:line` and value of each line of a JSON Lines file. Raises TaskError."""
    # not splitlines: a JSON text may hold U+2028, which is no end of line here
    shown = _as_seen_from_here(path)
    _refuse_endless(path, shown)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{shown}:{number}", _parsed(line, f"{shown}:{number}")


def _refuse_endless(path: Path, shown: Path) -> None:
    """Raise TaskError for a line that nobody wrote: it would be read whole, and decoded twice."""
    try:
        if path.stat().st_size <= LONGEST_ROW:
            return
        with path.open("rb") as file:
            number = 1
            while raw := file.readline(LONGEST_ROW + 1):
                if len(raw) > LONGEST_ROW:
                    raise TaskError(
                        f"{shown}:{number}: the line is longer than {LONGEST_ROW >> 20} MB. Write "
                        "one row a line (JSON Lines)"
                    )
                number += 1
    except OSError:
        return  # read_text says it in its own words


def _as_seen_from_here(path: Path) -> Path:
    """Return a path as people would type it: reports and errors name no folder of this machine."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, BOM and CRLF removed. Raises TaskError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise TaskError(f"{path}: no such file") from exc
    except UnicodeDecodeError as exc:
        if exc.object.startswith(_GZIP):
            raise TaskError(f"{path}:1: packed by gzip. Unpack it: gunzip {path}") from exc
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise TaskError(f"{path}:{line}: not UTF-8 (byte {exc.start}). Save it as UTF-8.") from exc
    except OSError as exc:
        raise TaskError(f"{path}: {exc.strerror or exc}") from exc


def _parsed(line: str, place: str) -> Json:
    try:
        return strict_json(line)
    except ValueError as exc:
        raise TaskError(f"{place}: {exc}") from exc


def strict_json(text: str, *, has_constants: bool = False) -> Json:
    """Return a JSON value. Raises ValueError with the reason: not JSON, NaN (but where a format
    `has_constants`), a key that stands twice, a number too large for any program, too deep.
    """
    try:
        value = (_LOGGED if has_constants else _STRICT).decode(text)
        # counting brackets is quick, and rules out almost every row
        if text.count("[") + text.count("{") > DEEPEST and _depth(value) > DEEPEST:
            raise RecursionError
    except json.JSONDecodeError as exc:
        what = exc.msg.removesuffix(" at")
        raise ValueError(f"not JSON: {what} at column {exc.colno}") from exc
    except RecursionError as exc:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from exc
    except ValueError as exc:
        if "integer string conversion" in str(exc):  # Python's guard, in Python's words
            raise ValueError("a number of more than 4300 digits: write it as text") from exc
        raise
    return value


def _depth(value: Json) -> int:
    deepest, level = 0, [value]
    while level:  # level by level, since recursion is what must not happen
        deepest += 1
        inner = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level = [v for some in inner for v in some]
    return deepest


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is larger than any number that a program can hold")
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON; write null")


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = {sys.intern(key): value for key, value in pairs}  # rows say the same keys
    if len(found) != len(pairs):
        keys = [k for k, _ in pairs]
        twice = next(k for k in keys if keys.count(k) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return found


# made once: json.loads would make one a call, a third of its time on a short row
_STRICT = json.JSONDecoder(
    parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_duplicates
)
_LOGGED = json.JSONDecoder(parse_float=_finite, object_pairs_hook=_no_duplicates)
