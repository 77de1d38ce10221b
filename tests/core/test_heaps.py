"""Heaps and crowds: found where they were planted, and seldom where numbers are smooth."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.core.heaps import crowds, heaps, resolution, roundings
from tests.core.lints.planted import clean_rows, rules_of, run

Draw = Callable[[random.Random], float]
SMOOTH: dict[str, Draw] = {
    "log-normal cents": lambda r: round(r.lognormvariate(2, 1), 2),
    "exponential cents": lambda r: round(r.expovariate(1 / 20) + 0.01, 2),
    "normal whole": lambda r: round(max(1, r.gauss(500, 120))),
    "uniform whole": lambda r: r.randrange(1, 1000),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_numbers_are_hardly_ever_called_heaped_or_crowded(name: str) -> None:
    alarms = {"heaping": 0, "understatement": 0}
    for seed in range(30):
        rng = random.Random(seed)
        values = [SMOOTH[name](rng) for _ in range(1000)]
        heap = heaps(values)
        alarms["heaping"] += heap is not None and heap.share - heap.expected >= 0.15
        alarms["heaping"] += any(r.share - r.expected >= 0.15 for r in roundings(values))
        alarms["understatement"] += bool(crowds(values))
    assert alarms["heaping"] == 0
    assert alarms["understatement"] <= 1


def test_a_third_rounded_to_fives_and_tens_is_found_with_its_share() -> None:
    rng = random.Random(1)
    values = [rng.lognormvariate(4, 0.7) for _ in range(2000)]
    rounded = [round(v / 10) * 10 if rng.random() < 0.35 else round(v) for v in values]
    [first, *_] = roundings(rounded)
    assert first.step in {5, 10}
    truth = sum(v > 0 and v % first.step == 0 for v in rounded) / len(rounded)
    assert first.lower <= truth <= first.upper
    assert first.share > first.expected + 0.15


def test_favourite_prices_are_found_and_named() -> None:
    rng = random.Random(2)
    favourites = [1.25, 0.85, 0.42, 2.95]
    values = [
        rng.choice(favourites)
        if rng.random() < 0.4
        else round(rng.lognormvariate(0.5, 1) + 0.01, 2)
        for _ in range(900)
    ]
    heap = heaps(values)
    assert heap is not None
    assert set(heap.values[:4]) == set(favourites)
    assert heap.lower < 0.4 + 0.06 * heap.expected + 0.05 < heap.upper + 0.05
    assert heap.expected < 0.1


def test_values_kept_below_a_limit_are_found_at_that_limit() -> None:
    rng = random.Random(4)
    values = []
    for _ in range(3000):
        value = rng.lognormvariate(4.6, 0.6)
        if 150 < value < 190 and rng.random() < 0.6:
            value = 150 - rng.random() * 12
        values.append(round(value, 2))
    assert [c.threshold for c in crowds(values, [150.0])] == [150.0]
    assert crowds(values) == [], "150 is no round number by itself: a person names it"


def test_resolution_is_the_place_that_nearly_all_keep_to() -> None:
    assert resolution([1, 2, 3]) == 1
    assert resolution([0.5, 1.25, 3.1]) == 0.01


def test_the_rule_names_the_column_and_leaves_ratings_and_ids_alone() -> None:
    rng = random.Random(5)
    rows = [
        replace(
            row,
            inputs={**row.inputs, "rating": rng.randrange(1, 11), "order_id": i * 100},
            reference={"value": rng.choice([10, 20, 50, 7, 13]) if i % 2 else rng.randrange(300)},
        )
        for i, row in enumerate(clean_rows(600))
    ]  # fmt: skip
    findings = run(rows)
    assert rules_of(findings) - {"length-outlier"} == {"heaping"}
    assert findings[-1].message.startswith("reference.value: ")
