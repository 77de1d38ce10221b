"""What a process is about to record, in a file beside the store: a kill leaves the file behind.

Knows no score. One line is one write, so what was added outlives the process, though not a loss of
power. The file is locked as long as its process lives: a process id may be somebody else's by now.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

MARK = ".scoring-"
"""Stands in the file's name between the store's and the process's."""
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Journal:
    """One file under way. What cannot be written (a full disk) is left out: it is a second copy."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle: int | None = handle
        self._is_whole = True

    @classmethod
    def begin(cls, store: Path) -> Journal | None:
        """Begin one beside the store at `store`; None where none can be kept (Windows and some
        file systems have no such locks, a folder may not be written to).
        """
        if sys.platform == "win32":
            return None
        with suppress(OSError):
            for _ in range(3):  # one who looks for files left behind may be quicker
                path = Path(f"{store}{MARK}{os.getpid()}-{secrets.token_hex(4)}")
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
                handle = os.open(path, flags, 0o644)
                if _is_locked_by_us(handle):
                    return cls(path, handle)
                os.close(handle)
                path.unlink(missing_ok=True)
        return None

    def add(self, plain: Any) -> None:
        """Add one JSON value."""
        if self._handle is None or not self._is_whole:
            return
        try:
            line = f"{_ENCODER.encode(plain)}\n".encode("ascii")
            self._is_whole = os.write(self._handle, line) == len(line)
        except (TypeError, ValueError, RecursionError):  # no JSON, which no run can hold either
            return
        except OSError:
            self._is_whole = False

    def remove(self) -> None:
        """Remove the file: what it holds is recorded."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave the file, where it was not removed, to whoever opens the store next."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@dataclass(slots=True, kw_only=True)
class Left:
    """A file whose process is gone. `ended_at`, UTC and ISO 8601, is when it last wrote; `stays` is
    set by who cannot make anything of it.
    """

    path: Path
    rows: tuple[Any, ...]
    ended_at: str
    stays: bool = False


def files_beside(store: Path, *, of: int | None = None) -> list[Path]:
    """Return the files beside `store`, those of living processes among them: all, or `of` one."""
    begin = f"{store.name}{MARK}" + (f"{of}-" if of is not None else "")
    with suppress(OSError):
        return sorted(path for path in store.parent.iterdir() if path.name.startswith(begin))
    return []


def left_behind(store: Path, *, but: Collection[Path] = ()) -> Iterator[Left]:
    """Yield what killed processes left beside `store`, locked, `but` some; each file is removed
    once the next is asked for, unless it `stays`. Nothing of a living process, and nothing that
    somebody else has in hand.
    """
    if sys.platform == "win32":
        return
    for path in files_beside(store):
        if path in but:
            continue
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:  # gone by now, or somebody else's
            continue
        try:
            if not _is_locked_by_us(handle):
                continue
            at = datetime.fromtimestamp(os.fstat(handle).st_mtime, UTC)
            rows = tuple(_whole_lines(path.read_bytes()))
            left = Left(path=path, rows=rows, ended_at=at.isoformat(timespec="microseconds"))
            yield left
            if not left.stays:
                path.unlink()
        finally:
            os.close(handle)


def _whole_lines(text: bytes) -> Iterator[Any]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # cut off on a full disk: the last one
            return


def _is_locked_by_us(handle: int) -> bool:
    """Lock an open file; tell whether that went well and the file still has its name."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(handle).st_nlink > 0
