"""Says where two JSON values differ, path by path. Knows nothing of replies or texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from harness.checks.base import LINES, lines, show
from harness.checks.parts import Path, Pattern, dotted, fits, frozen, kind_of
from harness.errors import UsageError
from harness.records import Json

MAX_DEPTH = 100  # parsed replies end at 64; this is for values that somebody hands in
MAX_MATCHED = 200  # items of an unordered array that are matched one to one under a tolerance
MAX_SHOWN_PAIRS = 12  # items of an unordered array that are paired by likeness, for the reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two values are compared; see `harness.checks.json_equal`."""

    unordered: bool | tuple[Pattern, ...] = ()
    ignore: tuple[Pattern, ...] = ()
    allow_extra: bool = False
    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        if self.absolute < 0 or self.relative < 0:
            raise UsageError("a tolerance is not below 0")

    def report(self, value: Json, expected: Json) -> str:
        """Return the differences, a line each, at most ten; empty where there is none."""
        found = list(islice(self.differences(value, expected, ()), LINES + 1))
        if not found:
            return ""
        text = lines(found[:LINES])
        return text if len(found) <= LINES else f"{text}\n  … and more"

    def differences(self, value: Json, expected: Json, path: Path) -> Iterator[str]:
        """Yield one line for each difference, in the order of `expected`."""
        if len(path) > MAX_DEPTH:
            raise UsageError(f"values nested deeper than {MAX_DEPTH} cannot be compared")
        if fits(path, self.ignore):
            return
        if isinstance(expected, dict) and isinstance(value, dict):
            yield from self._objects(value, expected, path)
        elif isinstance(expected, list | tuple) and isinstance(value, list | tuple):
            if self.unordered is True or (self.unordered and fits(path, self.unordered)):
                yield from self._unordered(list(value), list(expected), path)
            else:
                yield from self._arrays(value, expected, path)
        elif not self._is_same(value, expected):
            yield f"{dotted(path)}: expected {_told(expected, value)}, got {_told(value, expected)}"

    def _is_same(self, value: Json, expected: Json) -> bool:
        kind = kind_of(expected)
        if kind_of(value) != kind:
            return False
        if kind == "number" and value != expected:
            try:
                allowed = max(self.absolute, self.relative * abs(expected))
                return bool(abs(value - expected) <= allowed * (1 + 1e-12))
            except OverflowError:  # an int beyond any float
                return False
        return bool(value == expected)

    def _objects(
        self, value: dict[str, Json], expected: dict[str, Json], path: Path
    ) -> Iterator[str]:
        for key, wanted in expected.items():
            here = (*path, key)
            if key in value:
                yield from self.differences(value[key], wanted, here)
            elif not fits(here, self.ignore):
                yield f"{dotted(here)}: missing, expected {show(wanted, 80)}"
        if not self.allow_extra:
            for key, extra in value.items():
                if key not in expected and not fits((*path, key), self.ignore):
                    yield f"{dotted((*path, key))}: not expected, got {show(extra, 80)}"

    def _arrays(self, value: Json, expected: Json, path: Path) -> Iterator[str]:
        n, m = len(value), len(expected)
        if n == m:
            for i, (item, wanted) in enumerate(zip(value, expected, strict=True)):
                yield from self.differences(item, wanted, (*path, i))
            return
        yield f"{dotted(path)}: expected {m} items, got {n}"
        # what stands alike at both ends is left out, so that one inserted item is one line
        first = _alike(self, zip(value, expected, strict=False), path, limit=min(n, m))
        backwards = zip(reversed(value), reversed(expected), strict=False)
        last = _alike(self, backwards, path, limit=min(n, m) - first)
        for i in range(first, max(n, m) - last):
            here = (*path, i)
            if i < n - last and i < m - last:
                yield from self.differences(value[i], expected[i], here)
            elif i < m - last:
                yield f"{dotted(here)}: missing, expected {show(expected[i], 80)}"
            else:
                yield f"{dotted(here)}: not expected, got {show(value[i], 80)}"

    def _unordered(self, value: list[Json], expected: list[Json], path: Path) -> Iterator[str]:
        """Pair equal items, whatever their place, and tell of what is left over."""
        extra, lacking = self._unpaired(value, expected, path)
        if not extra and not lacking:
            return
        if len(extra) == len(lacking) <= MAX_SHOWN_PAIRS:
            # the likeliest pairs are shown as differences, which say more than two whole items
            for wanted in lacking:
                told = [list(self.differences(value[i], wanted, (*path, i))) for i in extra]
                best = min(range(len(extra)), key=lambda k: len(told[k]))
                yield from told[best]
                extra.pop(best)
            return
        for wanted in lacking:
            yield f"{dotted(path)}: no item {show(wanted, 80)}"
        for i in extra:
            yield f"{dotted((*path, i))}: not expected, got {show(value[i], 80)}"

    def _unpaired(
        self, value: list[Json], expected: list[Json], path: Path
    ) -> tuple[list[int], list[Json]]:
        """Return the places in `value` and the expected items that have no partner."""
        is_plain = not (self.absolute or self.relative or self.ignore or self.allow_extra)
        # texts are the same exactly where values are, but for arrays inside that have no order
        is_flat = not any(isinstance(v, dict | list | tuple) for v in (*value, *expected))
        if is_plain and (is_flat or not self.unordered or self.unordered is True):
            return _by_text(value, expected, sort=self.unordered is True)
        if len(value) != len(expected) or len(expected) > MAX_MATCHED:
            if len(value) == len(expected):
                raise UsageError(
                    f"{dotted(path)}: an unordered array of {len(expected)} items with a "
                    f"tolerance, `ignore`, `allow_extra` or inner paths; the limit is {MAX_MATCHED}"
                )
            return _by_text(value, expected, sort=False)
        likely = [
            [i for i, v in enumerate(value) if self._holds(v, wanted, path)] for wanted in expected
        ]
        partner = _matching(likely)
        taken = set(partner.values())
        lacking = [wanted for k, wanted in enumerate(expected) if k not in partner]
        return [i for i in range(len(value)) if i not in taken], lacking

    def _holds(self, value: Json, expected: Json, path: Path) -> bool:
        return next(self.differences(value, expected, (*path, "*")), None) is None


def _alike(
    comparison: Comparison, pairs: Iterable[tuple[Json, Json]], path: Path, *, limit: int
) -> int:
    """Return how many of the first pairs are equal, at most `limit`."""
    found = 0
    for item, wanted in islice(pairs, limit):
        if next(comparison.differences(item, wanted, (*path, "*")), None) is not None:
            break
        found += 1
    return found


def _by_text(
    value: list[Json], expected: list[Json], *, sort: bool
) -> tuple[list[int], list[Json]]:
    def key(item: Json) -> str:
        return frozen(_sorted(item) if sort else item)

    places: dict[str, list[int]] = {}
    for i in reversed(range(len(value))):
        places.setdefault(key(value[i]), []).append(i)
    lacking = []
    for wanted in expected:
        left = places.get(key(wanted))
        if left:
            left.pop()
        else:
            lacking.append(wanted)
    return sorted(i for left in places.values() for i in left), lacking


def _sorted(value: Json) -> Json:
    """Return `value` with every array in the order of its items' texts."""
    if isinstance(value, dict):
        return {k: _sorted(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return sorted((_sorted(v) for v in value), key=frozen)
    return value


def _matching(likely: list[list[int]]) -> dict[int, int]:
    """Return a largest pairing of rows with the columns that fit them.

    A tolerance is not transitive, so taking the first that fits could leave a pair over.
    Source: Kuhn (1955), Naval Research Logistics Quarterly 2:83-97, as augmenting paths.
    """
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column in likely[row]:
            if column not in seen:
                seen.add(column)
                if column not in owner or place(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    for row in range(len(likely)):
        place(row, set())
    return {row: column for column, row in owner.items()}


def _told(value: Json, other: Json) -> str:
    """Return a value for a difference, with its type where that is what differs."""
    kind = kind_of(value)
    shown = show(value, 80)
    return shown if kind == kind_of(other) or kind in ("null", "object") else f"{kind} {shown}"
