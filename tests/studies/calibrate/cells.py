"""One cell of the calibration: a world, what is asked of it, and how often each rule said so.

Knows nothing of worlds, gates or files. A run is seeded by its cell and its number alone, so a
cell gives the same counts in any order and on any number of processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Flags = dict[str, bool]
"""What each rule said in one run; a rule that says nothing here is left out."""
One = Callable[[np.random.Generator], Flags | None]
"""One run; None where the world that was drawn is not the one that is asked about."""

GATE = "gate"
CLAIM = 0.05
MOST_DRAWS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """`claim` is the largest rate that the documentation promises of the gate, None for none;
    `is_power` where high is good; `times` multiplies the runs of what is cheap.
    """

    section: str
    world: str
    data: str
    one: One = field(repr=False)
    claim: float | None = None
    is_power: bool = False
    times: int = 1
    note: str = ""

    @property
    def id(self) -> str:
        """Its name, which seeds it."""
        return f"{self.section}/{self.world}/{self.data}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What came of a cell. `drawn` worlds gave the `runs` that were asked about."""

    id: str
    runs: int
    drawn: int
    said: dict[str, int]
    seconds: float = 0.0


def count(cell: Cell, *, runs: int) -> Count:
    """Return how often each rule spoke in `runs` runs of `cell`."""
    seed = zlib.crc32(cell.id.encode())
    said: dict[str, int] = {}
    kept = drawn = 0
    while kept < runs:
        if drawn >= MOST_DRAWS * runs:
            raise RuntimeError(f"{cell.id}: {kept} of {drawn} worlds fit: mend the world")
        flags = cell.one(np.random.default_rng([seed, drawn]))
        drawn += 1
        if flags is None:
            continue
        kept += 1
        for rule, is_said in flags.items():
            said[rule] = said.get(rule, 0) + bool(is_said)
    return Count(id=cell.id, runs=kept, drawn=drawn, said=said)
