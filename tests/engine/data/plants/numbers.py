"""Numbers that people rounded, or kept below a limit, and numbers that are smooth."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from harness.core.examples import Example
from tests.core.lints.planted import clean_rows
from tests.engine.data.plants.base import Plant, Sown, of_whole, whole

Draw = Callable[[random.Random], float]
COUNT = 1000
SMOOTH: dict[str, Draw] = {
    "log-normal cents": lambda r: round(r.lognormvariate(2, 1), 2),
    "exponential cents": lambda r: round(r.expovariate(1 / 20) + 0.01, 2),
    "normal, whole": lambda r: round(max(1, r.gauss(500, 120))),
    "uniform, whole": lambda r: r.randrange(1, 1000),
    "shares in per cent": lambda r: round(100 * r.betavariate(2, 3), 1),
    "many small counts": lambda r: int(r.expovariate(1 / 15)),
    "a stay in minutes": lambda r: round(r.gammavariate(2, 30)),
    "zeros and sizes": lambda r: 0 if r.random() < 0.4 else round(r.lognormvariate(5, 1)),
    "of two kinds": lambda r: round(r.gauss(60, 12) if r.random() < 0.5 else r.gauss(400, 60)),
}


@cache
def base() -> list[Example]:
    return [replace(row, inputs={"case": f"number {i}"}) for i, row in enumerate(clean_rows(COUNT))]


def drawn(draw: Draw, seed: int, *, count: int) -> list[Example]:
    """Rows whose answers hold drawn numbers."""
    rng = random.Random(seed)
    return [replace(row, reference={"value": draw(rng)}) for row in base()[:count]]


def rounded(r: random.Random, *, step: float, share: float = 0.4) -> float:
    value = r.lognormvariate(4.5, 0.7)
    return round(value / step) * step if r.random() < share else round(value)


def favourites(r: random.Random) -> float:
    if r.random() < 0.35:
        return r.choice((1.25, 0.85, 0.42, 2.95))
    return round(r.lognormvariate(0.5, 1) + 0.01, 2)


def in_halves(r: random.Random) -> float:
    value = r.gammavariate(3, 2)
    return round(value * 2) / 2 if r.random() < 0.6 else round(value, 2)


HEAPED: dict[str, Draw] = {
    "to tens": partial(rounded, step=10),
    "to fives": partial(rounded, step=5),
    "to fifties": partial(rounded, step=50),
    "favourite prices": favourites,
    "half hours": in_halves,
}


def below(r: random.Random, *, limit: float, smooth: Draw, share: float = 0.6) -> float:
    """A value a little above a limit is often declared a little below it."""
    value = smooth(r)
    if limit < value < 1.3 * limit and r.random() < share:
        value = limit * (1 - 0.08 * r.random())
    return round(value, 2)


CROWDED: dict[str, tuple[Draw, float]] = {
    "below 100": (partial(below, limit=100, smooth=lambda r: r.lognormvariate(4.6, 0.6)), 100),
    "below 150": (partial(below, limit=150, smooth=lambda r: r.lognormvariate(4.9, 0.6)), 150),
    "below 20": (partial(below, limit=20, smooth=lambda r: r.expovariate(1 / 18)), 20),
    "below 500": (partial(below, limit=500, smooth=lambda r: r.gauss(480, 150)), 500),
}


def heaped(folder: Path) -> Iterable[Sown]:
    for seed in range(5):
        for kind, draw in HEAPED.items():
            yield whole(kind, drawn(draw, seed, count=COUNT), is_bad=True)
    for kind, examples in smooth_sets():
        yield whole(kind, examples, is_bad=False)


def crowded(folder: Path) -> Iterable[Sown]:
    for seed in range(6):
        for kind, (draw, limit) in CROWDED.items():
            rows = drawn(draw, seed, count=COUNT)
            yield whole(kind, rows, is_bad=True, thresholds=(float(limit),))
    for kind, examples in smooth_sets():
        yield whole(kind, examples, is_bad=False, thresholds=(150.0,))


def smooth_sets() -> Iterable[tuple[str, list[Example]]]:
    for seed in range(10):
        for kind, draw in SMOOTH.items():
            yield kind, drawn(draw, seed, count=200 if seed % 2 else COUNT)


PLANTS = (
    Plant(rule="heaping", unit="set", sow=heaped, told=of_whole),
    Plant(rule="understatement", unit="set", sow=crowded, told=of_whole, recall=0.95),
)
