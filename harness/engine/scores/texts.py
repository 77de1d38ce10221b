"""Files as lines and JSON values, with plain errors. Knows no format of scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import UsageError

BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
UTF8_BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 64 * 1024 * 1024


def opened(path: Path) -> BinaryIO:
    """Open a file to read. Raises UsageError for a folder, a missing or an empty file."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the files in it, as in {path}/*")
    try:
        if path.stat().st_size == 0:
            raise UsageError(f"{path} is empty: no scores in it")
        return path.open("rb")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror or exc})") from None


def head(path: Path, size: int = 65536) -> bytes:
    """Return the first bytes. Raises UsageError as `opened`, and for UTF-16 or UTF-32 text."""
    with opened(path) as file:
        start = file.read(size)
    for mark, name in BOMS.items():
        if start.startswith(mark):
            raise UsageError(f"{path} is {name}: save it as UTF-8")
    return start


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines of UTF-8 text, a byte order mark left out, line ends kept."""
    with opened(path) as file:
        number = 0
        while raw := file.readline(LONGEST_LINE):
            number += 1
            if number == 1:
                raw = raw.removeprefix(UTF8_BOM)
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as exc:
                raise UsageError(
                    f"{path}:{number}: byte {raw[exc.start]:#04x} is not UTF-8: the file is in "
                    "another encoding, or mixes two; save it as UTF-8"
                ) from None


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the object of each line that is not blank. Raises UsageError with file:line."""
    for number, line in lines(path):
        if not line.strip():
            continue
        value = parsed(line, place=f"{path}:{number}")
        if not isinstance(value, dict):
            raise UsageError(f"{path}:{number}: not a JSON object: one object a line is needed")
        yield number, value


def json_object(path: Path) -> dict[str, Any]:
    """Return the one JSON object of a file. Raises UsageError."""
    text = "".join(line for _, line in lines(path))
    value = parsed(text, place=str(path))
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not a JSON object")
    return value


def parsed(text: str | bytes, *, place: str) -> Any:
    """Return a JSON value. Raises UsageError that tells a cut-off text from a broken one."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        tail = exc.doc[exc.pos :].strip()
        is_cut = not tail or exc.msg.startswith("Unterminated string")
        where = (
            f"line {exc.lineno}, column {exc.colno}" if exc.lineno > 1 else f"column {exc.colno}"
        )
        what = "the JSON ends too early: was it cut off?" if is_cut else f"not JSON: {exc.msg}"
        raise UsageError(f"{place}: {what} ({where})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{place}: not UTF-8") from None
    except RecursionError:
        raise UsageError(f"{place}: JSON nested too deeply to be read") from None
