"""What the values of one named field are like: lengths, numbers, classes. Knows no file.

Values are seen one after the other, and memory stays flat: of texts and numbers a fair sample is
kept, of classes only as many as a person could read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.core.examples import Example
from harness.records import Json

SAMPLE = 5000
"""Lengths and numbers that are kept of a field."""
CLASSES = 2000
"""Different values that are counted; a field with more has no classes."""
LONGEST_CLASS = 80
"""Characters of the longest text that can be a class."""
MOST_FIELDS = 40
"""Fields that are described; further keys are counted together."""


@dataclass(slots=True)
class Sample:
    """A fair sample of numbers, with the extremes of all of them."""

    kept: list[float] = field(default_factory=list)
    count: int = 0
    low: float = 0.0
    high: float = 0.0

    def see(self, value: float) -> None:
        """Take one number."""
        self.low = value if not self.count else min(self.low, value)
        self.high = value if not self.count else max(self.high, value)
        self.count += 1
        if len(self.kept) < SAMPLE:
            self.kept.append(value)
            return
        place = _drawn(self.count)
        if place < SAMPLE:
            self.kept[place] = value

    def quantile(self, share: float) -> float:
        """Return the value below which a share of the sample lies."""
        ordered = sorted(self.kept)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _drawn(count: int) -> int:
    """Return a number below `count` that looks drawn, the same one whenever it is asked for.

    Source: Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators, the
    mixing function of SplitMix64.
    """
    mixed = (count * 0x9E3779B97F4A7C15) & _64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _64
    return (mixed ^ (mixed >> 31)) % count


_64 = 2**64 - 1


class Field:
    """The values of one field. `name` is as in `inputs.message` or `reference.value`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = self.absent = self.empty = 0
        self.kinds: Counter[str] = Counter()
        self.lengths = Sample()
        self.numbers = Sample()
        self.counts: Counter[str] = Counter()
        self.has_classes = True

    def see(self, value: Json) -> None:
        """Take one value: text, number, yes or no, or a list, whose items are the classes."""
        self.seen += 1
        if value is None:
            self.absent += 1
        elif isinstance(value, bool):
            self._class("bool", "yes" if value else "no")
        elif isinstance(value, int | float):
            self._number(value)
        elif isinstance(value, str):
            self.empty += not value.strip()
            self.lengths.see(len(value))
            number = _number_of(value)
            if number is not None:
                self._number(number, text=value)
            else:
                self._class("text", value)
        elif isinstance(value, list | tuple):
            self.empty += not value
            self.lengths.see(len(value))
            self.kinds["list"] += 1
            items = (item if isinstance(item, str) else _compact(item) for item in value)
            for item in dict.fromkeys(items):  # the share is that of lists which have it
                self._count(item)
        else:
            self.empty += not value
            self._class("object", _compact(value))

    def _number(self, value: float, text: str | None = None) -> None:
        self.kinds["number"] += 1
        try:
            self.numbers.see(float(value))
        except OverflowError:
            self.kinds["number"] -= 1
            self.kinds["text"] += 1
            return
        self._count(f"{value:g}" if text is None else text.strip())

    def _class(self, kind: str, value: str) -> None:
        self.kinds[kind] += 1
        self._count(value)

    def _count(self, value: str) -> None:
        if not self.has_classes:
            return
        if len(value) > LONGEST_CLASS:
            value = value[:LONGEST_CLASS] + "…"
        self.counts[value] += 1
        if len(self.counts) > CLASSES:
            self.has_classes = False
            self.counts.clear()

    @property
    def kind(self) -> str:
        """What most values are: text, number, bool, list, object; "" where there is none."""
        return self.kinds.most_common(1)[0][0] if self.kinds.total() else ""

    @property
    def classes(self) -> list[tuple[str, int]]:
        """The values by how often they stand there, where they are classes: values repeat."""
        total = self.counts.total()
        if not self.has_classes or total < 2 or len(self.counts) > max(3, total / 3):
            return []
        return self.counts.most_common()

    @property
    def heaps(self) -> list[tuple[str, int]]:
        """Single numbers on which at least 4 % of the values sit, and three of them."""
        if self.kind != "number" or not self.has_classes:
            return []
        total = self.counts.total()
        return [(v, n) for v, n in self.counts.most_common(10) if n >= max(3, 0.04 * total)]


def _number_of(text: str) -> float | None:
    """Return a text as a number, where it is written as one; "007" and " 1" are labels or noise."""
    if len(text) > 20 or not text or not (text[-1].isdigit() and text.isascii()):
        return None
    if text.lstrip("-")[:2].isdigit() and text.lstrip("-").startswith("0"):
        return None
    try:
        return float(text.replace("_", "x"))
    except ValueError:
        return None


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def parts_of(example: Example) -> Iterator[tuple[str, Json]]:
    """Yield the fields of an example, one level into objects: `reference.value`."""
    for name, value in example.inputs.items():
        yield f"inputs.{name}", value
    if example.messages:
        yield "messages", "".join(m.content for m in example.messages)
        yield "turns", len(example.messages)
    if example.images:
        yield "images", len(example.images)
    for name in ("reference", "rejected"):
        value = getattr(example, name)
        if isinstance(value, dict) and value and len(value) <= 12:
            for key, inner in value.items():
                yield f"{name}.{key}", inner
        elif value is not None:
            yield name, value
    if example.calls:
        yield "calls", [_called(call) for call in example.calls]
    if example.is_good is not None:
        yield "is_good", example.is_good


def _called(call: Json) -> str:
    inner = call.get("function", call) if isinstance(call, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    return str(name) if name else "?"


class Fields:
    """The fields of examples, in the order in which they were met."""

    def __init__(self) -> None:
        self.by_name: dict[str, Field] = {}
        self.left_out: set[str] = set()

    def see(self, example: Example) -> None:
        """Take one example."""
        for name, value in parts_of(example):
            found = self.by_name.get(name)
            if found is None:
                if len(self.by_name) >= MOST_FIELDS:
                    if len(self.left_out) < CLASSES:
                        self.left_out.add(name)
                    continue
                found = self.by_name[name] = Field(name)
            found.see(value)


def histogram(values: Sequence[float], bins: int) -> list[tuple[float, float, int]]:
    """Return `(from, to, count)` over equal bins, which end at the 99th percentile: one value
    far out would leave a single bar. The last bin holds what is beyond.
    """
    if not values:
        return []
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    if high <= low:
        high = ordered[-1]
    if high <= low:
        return [(low, high, len(ordered))]
    width = high / bins - low / bins  # the difference may be more than a number can hold
    counts = [0] * bins
    for value in ordered:
        counts[min(bins - 1, int(value / width - low / width))] += 1
    edges = [low + width * n for n in range(bins)] + [max(high, ordered[-1])]
    return [(edges[n], edges[n + 1], counts[n]) for n in range(bins)]
