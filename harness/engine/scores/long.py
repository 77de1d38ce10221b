"""Reads the long form, CSV or JSON Lines: one score a row. Knows columns, not verdicts."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.engine.scores.source import Source, Tasked
from harness.engine.scores.table import ScoreRow
from harness.engine.scores.texts import json_lines, lines
from harness.errors import UsageError

WHO = ("try", "candidate")
KNOWN = ("case", *WHO, "metric", "score", "cluster", "slice", "family", "repeat", "order", "task")
NO_METRIC = "score"
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(source: Source) -> Iterator[Tasked]:
    """Yield the rows of a CSV with a header. Raises UsageError with file:line."""
    place = source.shown
    last = 0

    def texts() -> Iterator[str]:
        nonlocal last
        for number, line in lines(source.path):
            last = number
            yield line

    reader = csv.reader(texts(), strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = _header(cells, source, line=last)
                continue
            if len(cells) != len(names):
                raise UsageError(
                    f"{place}:{last}: {len(cells)} fields for {len(names)} columns "
                    f"({', '.join(names)}): a row that was cut off, or a comma without quotes?"
                )
            yield _row(dict(zip(names, cells, strict=True)), source, line=last)
    except csv.Error as exc:
        raise UsageError(f"{place}:{last}: not CSV: {exc}") from None
    if names is None:
        raise UsageError(f"{place} is empty: no header, no scores")


def read_jsonl(source: Source) -> Iterator[Tasked]:
    """Yield the rows of JSON Lines. Raises UsageError with file:line."""
    for number, plain in json_lines(source.path):
        value = {str(k).strip().lower(): v for k, v in plain.items()}
        needed(value, source, line=number)
        yield _row(value, source, line=number)


def _header(cells: Sequence[str], source: Source, *, line: int) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    if len(names) == 1:
        for delimiter, called in OTHER_DELIMITERS.items():
            if delimiter in names[0]:
                raise UsageError(
                    f"{source.shown}:{line}: columns are separated by {called}, not by commas: "
                    "save it as comma-separated CSV"
                )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UsageError(f"{source.shown}:{line}: column {twice[0]!r} stands twice")
    needed(dict.fromkeys(names), source, line=line)
    return names


def needed(names: Mapping[str, Any], source: Source, *, line: int) -> None:
    """Raise UsageError unless case, score and try (or candidate) are there; note the unknown."""
    missing = [name for name in ("case", "score") if name not in names]
    if not any(name in names for name in WHO) and not source.name:
        missing.insert(1, " or ".join(WHO))
    if missing:
        found = ", ".join(map(str, names)) or "none"
        near = difflib.get_close_matches(missing[0], list(names), n=1, cutoff=0.6)
        hint = f" Is {near[0]!r} meant as {missing[0]!r}?" if near else ""
        raise UsageError(
            f"{source.shown}:{line}: no column {', '.join(map(repr, missing))}. Found: {found}."
            f"{hint} The long form has case, {' or '.join(WHO)}, score, and optionally "
            "metric, cluster, slice, family, repeat, order."
        )
    for name in names:
        if name not in KNOWN and name:
            source.unknown.setdefault(name, None)


def _row(value: Mapping[str, Any], source: Source, *, line: int) -> Tasked:
    place = f"{source.shown}:{line}"
    case = _text(value.get("case"))
    who = next((t for n in source.who_columns if (t := _text(value.get(n)))), source.name)
    for name, text in (("case", case), (" or ".join(WHO), who)):
        if not text:
            raise UsageError(f"{place}: {name} is empty")
    order = value.get("order")
    row = ScoreRow(
        line=line,
        case=case,
        who=who,
        metric=_text(value.get("metric")) or NO_METRIC,
        score=_score(value["score"], place=place),
        repeat=_text(value.get("repeat")),
        cluster=_text(value.get("cluster")),
        slice=_text(value.get("slice")),
        family=_text(value.get("family")),
        order=None if order in ("", None) else _number(order, place=place, what="order"),
    )
    return _text(value.get("task")), row


def _text(value: Any) -> str:
    """Return a name as text: a JSON 1 and a CSV `1` are one case."""
    return "" if value is None else str(value).strip()


def _score(value: Any, *, place: str) -> float | None:
    """Return the score, None where the field is empty: no answer, which is not a miss."""
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        return None
    return _number(value, place=place, what="score")


def _number(value: Any, *, place: str, what: str) -> float:
    number = None
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = None
    if number is None:
        text = f"{value!r}"[:60]
        hint = "; write 1 or 0" if text.strip("'").lower() in ("true", "false") else ""
        if isinstance(value, str) and "%" in value:
            hint = "; write a share of 1"
        elif isinstance(value, str) and "," in value:
            hint = "; write a decimal point"
        raise UsageError(f"{place}: {what} {text} is not a number{hint}")
    if not math.isfinite(number):
        raise UsageError(
            f"{place}: {what} {value!r} is not a finite number; leave it empty where there is "
            "no answer"
        )
    return number
