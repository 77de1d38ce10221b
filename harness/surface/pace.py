"""Says how fast rows were worked through, beside what a plain JSON pass over them does.

Knows no command. What is told is of this machine at this moment, so it stands in no record.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

LEAST_ROWS = 5000
"""Of fewer rows nothing is said in text: the numbers would be those of a command's beginning."""
PASS_S = 0.2
LINES = 20_000
LARGEST = 8 << 20
"""Seconds, lines and bytes of the plain pass, at most: it begins at the file's first row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Rows a second: of a command, and of `json.loads` alone (None: the file is no JSON Lines)."""

    rows_per_s: float
    json_rows_per_s: float | None

    @property
    def line(self) -> str:
        """The pace as text."""
        text = f"{self.rows_per_s:,.0f} rows a second"
        if self.json_rows_per_s is None:
            return text
        return f"{text}; json.loads alone reads {self.json_rows_per_s:,.0f}"

    @property
    def json(self) -> dict[str, float | None]:
        """The pace for programs."""
        plain = self.json_rows_per_s
        return {
            "rows_per_s": round(self.rows_per_s, 1),
            "json_rows_per_s": None if plain is None else round(plain, 1),
        }


class Timed:
    """Measures the time of a `with`, and what a plain pass over `path` would have taken."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._since = self.seconds = 0.0

    def __enter__(self) -> Timed:
        self._since = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.monotonic() - self._since

    def pace(self, rows: int) -> Pace:
        """Return the pace of `rows` in the time of the `with`."""
        plain = None if self._path is None else json_rows_per_s(self._path)
        return Pace(rows_per_s=rows / max(self.seconds, 1e-9), json_rows_per_s=plain)

    def lines(self, rows: int) -> list[str]:
        """Return the pace as a line of text, where there were enough to say something."""
        return [self.pace(rows).line] if rows >= LEAST_ROWS else []


def json_rows_per_s(path: Path) -> float | None:
    """Return how many lines of a file `json.loads` reads a second; None for no JSON Lines."""
    rows = size = 0
    since = time.monotonic()
    try:
        with path.open("rb") as file:
            for line in islice(iter(lambda: file.readline(LARGEST), b""), LINES):
                json.loads(line)
                rows, size = rows + 1, size + len(line)
                if size > LARGEST or time.monotonic() - since > PASS_S:
                    break
    except (OSError, ValueError, RecursionError):
        return None if rows < 2 else rows / (time.monotonic() - since)
    return rows / (time.monotonic() - since) if rows > 1 else None
