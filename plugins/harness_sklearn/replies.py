"""What kind of replies a training set has, and how numbers are written. Knows no model."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from harness import UsageError

Known = Literal["numbers", "classes", "labels", "nearest"]
_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d+)?\s*")
FEWEST_NUMBERS = 12
"""Different numbers below which numbers are names of classes, as grades are."""
ROWS_A_CLASS = 3
"""Rows that a different reply must have on average to be a class."""


def kind_of(replies: Sequence[str]) -> Known:
    """Return what the replies are: numbers, lists of labels, classes; else any text."""
    different = len(set(replies))
    if different >= FEWEST_NUMBERS and all(_NUMBER.fullmatch(r) for r in replies):
        return "numbers"
    if all(labels_in(r) is not None for r in replies):
        return "labels"
    return "classes" if different * ROWS_A_CLASS <= len(replies) else "nearest"


def labels_in(reply: str) -> tuple[str, ...] | None:
    """Return the labels of a JSON list of texts; None where it is something else."""
    try:
        found = json.loads(reply)
    except ValueError:
        return None
    is_list = isinstance(found, list) and all(isinstance(x, str) for x in found)
    return tuple(found) if is_list else None


def as_list(labels: Sequence[str]) -> str:
    """Return labels as a reference would be said: compact JSON."""
    return json.dumps(list(labels), separators=(",", ":"), ensure_ascii=False)


def numbers_in(replies: Sequence[str]) -> list[float]:
    """Return the replies as numbers. Raises UsageError naming the first that is none."""
    for reply in replies:
        if not _NUMBER.fullmatch(reply):
            raise UsageError(f'kind = "numbers": the reply {reply[:60]!r} is not a number alone')
    return [float(r) for r in replies]


def decimals_of(replies: Sequence[str]) -> int:
    """Return the most decimals that a reply has: a prediction is written like them."""
    return max((len(r.strip().partition(".")[2]) for r in replies), default=0)


def is_skewed(numbers: Sequence[float]) -> bool:
    """Tell whether the logarithm should be fitted: all above 0, over two orders of magnitude."""
    return min(numbers) > 0 and max(numbers) / min(numbers) > 100


def as_number(value: float, *, decimals: int) -> str:
    """Return `value` with so many decimals."""
    if not math.isfinite(value):
        raise UsageError("the model predicts no finite number")
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def label_counts(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return every label, the most frequent first."""
    counts = Counter(label for labels in lists for label in set(labels))
    return [label for label, _ in sorted(counts.items(), key=lambda p: (-p[1], p[0]))]
