"""Numbers in answers and inputs: rounded to favourite values, or kept below a threshold."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from harness.core.heaps import LEAST, crowds, heaps, roundings
from harness.core.lints.base import Finding, Lint, Row, Rule, Severity
from harness.core.words import percent
from harness.records import Json

HELD = 100_000
"""Values of one column that are looked at: the first. They tell the habit."""
COLUMNS = 40
_NUMBER = re.compile(r"^[^\w.,+-]{0,3}\s*([+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[+-]?\d+(?:\.\d+)?)\s*"
                     r"(?:[^\w\s]|[A-Za-z]{1,5})?$")  # fmt: skip
_NAMES = re.compile(
    r"(?:^|[_\W])(?:id|ids|uuid|zip|phone|year|date|time|timestamp|code|index)$", re.I
)
LEAST_SHARE = 0.15
"""Share of values on heaps, beyond a smooth spread's, from which a finding is made."""


class NumberLint(Lint):
    """Finds heaping and understatement. `thresholds` are limits that a person names."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="heaping",
            severity="warn",
            about="Numbers stand on favourite values: 15 points more of them than a smooth spread "
            "would put there, with a 95 % interval. People round, or a price list has few points; "
            "a model that learns them guesses the popular value, and looks right.",
            fix="Find out how the numbers came about. Score by relative error, and beside it the "
            "share on popular values; report a baseline that always answers the most popular one.",
        ),
        Rule(
            name="understatement",
            severity="warn",
            about="Numbers crowd just below a round threshold (or one that `--threshold` names): "
            "more than the slope around it explains, one time in a thousand by chance. Prices end "
            "in 99; values are declared below a limit that costs something.",
            fix="Ask who gains from staying below. Labels that are understated teach "
            "understatement: get true values for a sample, and compare.",
        ),
    )

    def __init__(self, *, thresholds: Sequence[float] = ()) -> None:
        self._thresholds = tuple(thresholds)
        self._values: dict[str, array[float]] = {}
        self._rows: dict[str, int] = {}

    def see(self, row: Row) -> None:
        """Collect the numbers of a row, by the column that they stand in."""
        for name, value in _numbers("reference", row.example.reference):
            self._add(name, value)
        for key, inner in row.example.inputs.items():
            for name, value in _numbers(f"inputs.{key}", inner):
                self._add(name, value)

    def _add(self, name: str, value: float) -> None:
        values = self._values.get(name)
        if values is None:
            if len(self._values) >= COLUMNS:
                return
            values = self._values[name] = array("d")
        if len(values) < HELD:
            values.append(value)

    def findings(self) -> Iterable[Finding]:
        """Return the columns that are heaped, and the thresholds that are crowded below."""
        for name, values in self._values.items():
            if len(values) < LEAST or _NAMES.search(name):
                continue
            # a label's habits are learned; an input's are only known
            severity: Severity = "warn" if name.startswith("reference") else "note"
            yield from self._heaping(name, values.tolist(), severity)
            for crowd in crowds(values, self._thresholds)[:3]:
                yield self.found(
                    "understatement",
                    f"{name}: {crowd.below} values in the tenth below {crowd.threshold:g} and "
                    f"{crowd.above} in that above, where the slope around would put "
                    f"{crowd.expected:.0f} and {crowd.below + crowd.above - crowd.expected:.0f}",
                    count=crowd.below,
                    severity=severity,
                )

    def _heaping(self, name: str, values: list[float], severity: Severity) -> Iterator[Finding]:
        heap = heaps(values)
        rounding = next(iter(roundings(values)), None)
        is_heaped = heap is not None and heap.share - heap.expected >= LEAST_SHARE
        is_round = rounding is not None and rounding.share - rounding.expected >= LEAST_SHARE
        if not is_heaped and not is_round:
            return
        said = []
        if heap is not None and is_heaped:
            few = ", ".join(f"{v:g}" for v in heap.values[:5])
            said.append(
                f"{_whole(heap.share)} of {heap.n} values (95 % interval {_whole(heap.lower)} to "
                f"{_whole(heap.upper)}) stand on {len(heap.values)} favourites, as {few}; a smooth "
                f"spread would put {_whole(heap.expected)} there"
            )
        if rounding is not None and is_round:
            said.append(
                f"{_whole(rounding.share)} (95 % interval {_whole(rounding.lower)} to "
                f"{_whole(rounding.upper)}) are multiples of {rounding.step:g}, "
                f"where {_whole(rounding.expected)} would be"
            )
        yield self.found(
            "heaping", f"{name}: {'; '.join(said)}", count=len(values), severity=severity
        )


def _whole(share: float) -> str:
    return percent(share, digits=0)


def _numbers(name: str, value: Json) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a value and their names: its own, or those of its keys."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(inner, Mapping):
                yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, str):
        match = _NUMBER.match(value.strip()) if len(value) < 24 else None
        if match:
            yield name, float(match[1].replace(",", ""))
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        yield name, float(value)
