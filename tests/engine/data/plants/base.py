"""Sets of rows in which faults were planted among look-alikes, and what a rule finds of them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.examples import Example
from harness.core.lints.base import Finding
from harness.engine.data.linting import Report, Rows, Settings, file_rows, lint
from tests.core.lints.planted import clean_rows

Change = Callable[[Any, random.Random], Any]
"""Makes a fault, or what only looks like one, of a clean row."""
Kinds = Mapping[str, Change]
Told = Callable[[Finding], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sown:
    """One set. `bad` says of what kind the fault of each name is, `good` of what kind each of the
    others; a name is that of a row, a label, a word, or of the whole set. `given` is for `lint`.
    """

    rows: Rows
    bad: Mapping[str, str] = field(default_factory=dict)
    good: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    given: Mapping[str, Any] = field(default_factory=dict)


def rows_named(finding: Finding) -> list[str]:
    """The names of the rows that a finding names: ids, or lines of a file."""
    return [p.id or p.place.rpartition(":")[2] for p in finding.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """How the faults of one rule are planted. `told` reads the names out of a finding; `recall` is
    the least share that must be found, `alarms` the largest share of the others that may be named.
    """

    rule: str
    sow: Callable[[Path], Iterable[Sown]]
    unit: str = "row"
    told: Told = rows_named
    recall: float = 1.0
    alarms: float = 0.0


@dataclass(slots=True)
class Measured:
    """Of `planted` faults, `found`; of `clean` others, `named`. `missed` and `alarmed` say which
    kinds.
    """

    unit: str
    planted: int = 0
    found: int = 0
    clean: int = 0
    named: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    alarmed: Counter[str] = field(default_factory=Counter)

    @property
    def published(self) -> dict[str, Any]:
        """What docs/lints.md shows."""
        names = ("unit", "planted", "found", "clean", "named")
        return {name: getattr(self, name) for name in names}


def measure(plant: Plant, folder: Path) -> Measured:
    """Let the engine lint every set, and count."""
    measured = Measured(plant.unit)
    for sown in plant.sow(folder):
        report = asked(plant, sown)
        told = {name for finding in report.findings for name in plant.told(finding)}
        assert sown.bad.keys().isdisjoint(sown.good), "a name is bad or good"
        assert told <= sown.bad.keys() | sown.good.keys(), "a name that nobody sowed"
        measured.planted += len(sown.bad)
        measured.clean += len(sown.good)
        measured.found += len(told & sown.bad.keys())
        measured.named += len(told & sown.good.keys())
        measured.missed.update(kind for name, kind in sown.bad.items() if name not in told)
        measured.alarmed.update(kind for name, kind in sown.good.items() if name in told)
    return measured


def asked(plant: Plant, sown: Sown) -> Report:
    """What the engine reports of a set, by this rule alone."""
    settings = replace(sown.settings, only=(plant.rule,))
    return lint([sown.rows], settings=settings, **sown.given)


def held(examples: Sequence[Example]) -> Rows:
    """Rows in memory."""
    return Rows(name="rows", open=lambda: examples)


def of_whole(finding: Finding) -> list[str]:
    """The name of a set that is wrong as a whole."""
    return ["set"]


def whole(kind: str, examples: Sequence[Example], *, is_bad: bool, **settings: Any) -> Sown:
    """A set that is right or wrong as a whole."""
    name = {"set": kind}
    rows, told = held(examples), Settings(**settings)
    return (Sown(rows=rows, bad=name, settings=told) if is_bad
            else Sown(rows=rows, good=name, settings=told))  # fmt: skip


def dealt(count: int, faults: Kinds, alike: Kinds, *, each: int, seed: int) -> dict[int, str]:
    """Which rows become what: `each` of every kind, anywhere among the others."""
    kinds = [kind for kind in (*faults, *alike) for _ in range(each)]
    places = random.Random(seed).sample(range(count), len(kinds))
    return dict(zip(places, kinds, strict=True))


def one_by_one(
    faults: Kinds,
    alike: Kinds,
    *,
    make: Callable[[int], list[Example]] = clean_rows,
    each: int = 10,
    plain: int = 200,
    seed: int = 0,
    **more: Any,
) -> Callable[[Path], list[Sown]]:
    """Faults of single rows: `each` of every kind, as many of what looks alike, `plain` others."""

    def sow(folder: Path) -> list[Sown]:
        rng = random.Random(seed)
        rows = make(plain + each * (len(faults) + len(alike)))
        kinds = dealt(len(rows), faults, alike, each=each, seed=seed)
        for at, kind in kinds.items():
            rows[at] = {**faults, **alike}[kind](rows[at], rng)
        named = {row.id: kinds.get(at, "plain") for at, row in enumerate(rows)}
        return [
            Sown(
                rows=held(rows),
                bad={name: kind for name, kind in named.items() if kind in faults},
                good={name: kind for name, kind in named.items() if kind not in faults},
                **more,
            )
        ]

    return sow


def line_by_line(
    faults: Kinds,
    alike: Kinds,
    *,
    make: Callable[[int, random.Random], Any],
    each: int = 5,
    plain: int = 100,
    seed: int = 0,
) -> Callable[[Path], list[Sown]]:
    """The same in a file, for what a reader refuses: a change makes a JSON value, or a raw line."""

    def sow(folder: Path) -> list[Sown]:
        rng = random.Random(seed)
        count = plain + each * (len(faults) + len(alike))
        kinds = dealt(count, faults, alike, each=each, seed=seed)
        raw = []
        for at in range(count):
            row = make(at, rng)
            row = {**faults, **alike}[kinds[at]](row, rng) if at in kinds else row
            raw.append(row if isinstance(row, bytes) else json.dumps(row).encode())
        path = folder / "rows.jsonl"
        path.write_bytes(b"\n".join(raw) + b"\n")
        named = {str(at + 1): kinds.get(at, "plain") for at in range(count)}
        return [
            Sown(
                rows=file_rows(path, columns={}),
                bad={name: kind for name, kind in named.items() if kind in faults},
                good={name: kind for name, kind in named.items() if kind not in faults},
            )
        ]

    return sow
