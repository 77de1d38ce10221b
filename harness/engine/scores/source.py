"""One file of scores that was named on the command line. Knows its path and name, not its form."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.engine.scores.table import ScoreRow

DATE = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)[-:](\d\d)[-:](\d\d)")

Tasked = tuple[str, ScoreRow]
"""A task (empty where the file names none) and a row of it."""


@dataclass(slots=True, kw_only=True)
class Source:
    """A file, how errors call it, and what the reader noticed.

    `name` is what the user calls the try or candidate in it (empty: the file says). Readers add
    to `unknown` the columns that nothing reads, to `left_out` metrics that are no scores (with a
    value that shows it), and to `notes` what people must know.
    """

    path: Path
    shown: str
    name: str = ""
    who_columns: tuple[str, ...] = ("try", "candidate")
    unknown: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    default_metric: str | None = None


def short_name(text: str, *, width: int = 48) -> str:
    """Return a text on one line, cut to `width`."""
    text = " ".join(str(text).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def fraction(value: Any, metric: str, *, source: Source) -> float | None:
    """Return a tool's figure as a score, None where it has none.

    A metric with a figure outside [0, 1] is no score: it is left out whole, and that is said.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (bool, int, float)) and 0 <= value <= 1:
        return float(value)
    source.left_out.setdefault(metric, f"{value!r}"[:40])
    return None


def number_of(text: str) -> float | None:
    """Return the seconds of an ISO date (also with `-` for `:`), None where it is none."""
    match = DATE.search(text)
    if not match:
        return None
    day, hour, minute, second = match.groups()
    moment = datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}+00:00")
    return moment.timestamp()
