"""Rows that are far longer or shorter than the others, or too long for the model."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness.core.examples import Example
from harness.core.lints.base import Finding, Hits, Lint, Place, Row, Rule
from harness.core.words import count

LEAST_ROWS = 30
FAR = 6.0
"""An outlier is so many spreads from the middle, on the scale of logarithms: of a million lengths
that are log-normal, none by chance. The spread is the half of the rows around the middle, scaled.
"""
LEAST_SPREAD, MOST_SPREAD = 0.15, 1.0
"""Half a word's worth, so that a set of equal lengths has no outliers; and so much that what is
four hundred times as long as most is one in every set.
"""
USUAL = 0.05
"""Lengths that one row in twenty has are a kind of their own, and what is near them is no outlier.
"""
APART = {"characters": 25, "tokens": 6}
"""What an outlier is longer or shorter than the middle at the least: labels of 2 and of 20
characters are ten times apart, and no outliers.
"""
HELD = 300
EXACT = 1000
"""Lengths are counted by value up to here, beyond it to three digits: a few thousand counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How a model counts a row. `tokens` gives the tokens of the prompt that is sent, and of the
    answer, None where it cannot tell; `context` is how many it holds, where that is known.
    """

    model: str
    tokens: Callable[[Example], tuple[int, int] | None]
    context: int | None = None


class LengthLint(Lint):
    """Finds lengths that are off. With a `measure`, of tokens; else of characters."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="too-long",
            severity="error",
            about="Prompt (with its template) and answer have more tokens than the model's context "
            "holds. Trainers cut such rows in silence; asked, the model faults.",
            fix="Shorten the row, or take a model with a longer context.",
        ),
        Rule(
            name="length-outlier",
            severity="note",
            about="A question or an answer is far longer or shorter than the others: six "
            "spreads from the median, on a logarithmic scale, and beyond what one row in twenty "
            "is. Often many rows in one, a file in a cell, or a cut.",
            fix="Read these rows.",
        ),
    )

    def __init__(self, *, measure: Measure | None = None) -> None:
        self._measure = measure
        self._unit = "tokens" if measure else "characters"
        self._sizes: dict[str, Counter[int]] = {"question": Counter(), "answer": Counter()}
        self._ends: dict[str, list[tuple[int, int, Place]]] = {}
        self._long = Hits()
        self._most = 0

    def see(self, row: Row) -> None:
        """Take the lengths of a row."""
        sizes = (len(row.asked), len(row.answer or ""))
        if self._measure is not None:
            counted = self._measure.tokens(row.example)
            if counted is None:
                return
            sizes = counted
            self._most = max(self._most, sum(sizes))
            if self._measure.context is not None and sum(sizes) > self._measure.context:
                self._long.add(row, f"{sum(sizes)} tokens")
        for what, size in zip(self._sizes, sizes, strict=True):
            if size:
                self._sizes[what][_rounded(size)] += 1
                _keep(self._ends.setdefault(f"{what} long", []), size, row)
                _keep(self._ends.setdefault(f"{what} short", []), -size, row)

    def findings(self) -> Iterable[Finding]:
        """Return what is too long, and what is far from the others."""
        if self._long.count and self._measure is not None:
            text = (
                f"{count(self._long.count, 'row')} with more tokens than {self._measure.model} "
                f"holds ({self._measure.context}); the longest has {self._most}"
            )
            yield self.found("too-long", text, count=self._long.count, rows=self._long.rows)
        for what, sizes in self._sizes.items():
            if sizes.total() < LEAST_ROWS:
                continue
            usual = _quantiles(sizes, (USUAL, 0.25, 0.5, 0.75, 1 - USUAL))
            shortest, low, middle, high, longest = map(math.log, usual)
            spread = min(max((high - low) / 1.349, LEAST_SPREAD), MOST_SPREAD)
            least, most = FAR * LEAST_SPREAD, FAR * spread
            median, apart = usual[2], APART[self._unit]
            ends = {
                "long": (1, max(middle + most, longest + least), median + apart),
                "short": (-1, min(middle - most, shortest - least), median - apart),
            }
            for end, (sign, edge, beyond) in ends.items():
                limit = max(sign * math.exp(edge), sign * beyond)
                far = sorted(
                    ((s, n, p) for s, n, p in self._ends.get(f"{what} {end}", []) if s > limit),
                    key=lambda x: (-x[0], x[1]),
                )
                if far:
                    more = " or more" if len(far) == HELD else ""
                    yield self.found(
                        "length-outlier",
                        f"{len(far)}{more} {what}{'s' * (len(far) != 1)} far {end}er than the "
                        f"others (median {median} {self._unit})",
                        rows=[p.told(f"{abs(s)} {self._unit}") for s, _, p in far],
                    )


def _rounded(size: int) -> int:
    step = 1
    while size >= EXACT * step:
        step *= 10
    return size // step * step


def _quantiles(sizes: Counter[int], shares: Sequence[float]) -> list[int]:
    """Return the lengths that these shares of the rows do not exceed."""
    values = sorted(sizes)
    sums = np.cumsum([sizes[v] for v in values])
    return [values[int(np.searchsorted(sums, share * sums[-1]))] for share in shares]


def _keep(heap: list[tuple[int, int, Place]], size: int, row: Row) -> None:
    if len(heap) < HELD:
        heapq.heappush(heap, (size, -row.number, row.place))
    elif size > heap[0][0]:
        heapq.heapreplace(heap, (size, -row.number, row.place))
