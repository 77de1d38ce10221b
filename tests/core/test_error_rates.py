"""The calibration in short: worlds of `make calibrate`, few runs, fixed seeds, claimed errors.

A gate at its claimed rate passes each line once in a thousand suites; the last tests break the
gates and see that these lines would notice. The whole table is reports/calibration.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scipy.stats import binom

from harness.core import measures, pairs, release, wall
from tests.studies.calibrate.cells import CLAIM, GATE, Cell, count
from tests.studies.calibrate.release_study import release_cells
from tests.studies.calibrate.wall_study import wall_cells

CELLS = {cell.id: cell for cell in wall_cells() + release_cells()}
MOSTLY = 0.75


def most(runs: int) -> int:
    """The count that a rate of exactly .05 passes once in a thousand times."""
    return int(binom.ppf(0.999, runs, CLAIM))


def said(name: str, runs: int) -> int:
    return count(CELLS[name], runs=runs).said[GATE]


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("next/the same, wide/4,000", 80),
        ("next/climbing/4,000", 80),
        ("next/saturating above/4,000", 60),
        ("joint/one prompt exactly at the target/1,000, 5 a source", 50),
        ("joint/one prompt exactly at the target/300, smooth scores", 50),
        ("joint/one exactly at the target; 2 % missing, all of them solved/300", 50),
        ("joint/the last family reaches it/200", 50),
        ("ship/all exactly at the target/500", 50),
        ("ship/5 points below; each fixes 8 % of failing dev cases/500", 50),
        ("no gain/equal arms/500, 10 a source", 200),
        ("no gain/equal arms/200, smooth scores", 200),
        ("no gain/2 % missing, all of them the candidate's misses/300", 200),
        ("guardrail/margin 0.03 truly lost, in rare cases/100", 200),
        ("beside/four must-hold slices, one loses its margin of .05/1,000", 150),
        ("looks/ten equal candidates in turn/300", 80),
        ("growing/no gain/1,000", 200),
        ("match/truly .05 worse, twice as fast/1,000", 200),
        ("match/truly equal, no faster/1,000", 200),
        ("budgets/p95 latency at the limit/300", 200),
    ],
)
def test_a_gate_errs_no_more_often_than_it_says(name: str, runs: int) -> None:
    assert CELLS[name].claim == CLAIM
    assert said(name, runs) <= most(runs)


@pytest.mark.parametrize(
    "name",
    [
        "power/10 points below/300",
        "power/15 points below/300, 5 a source",
        "beside/primary gains 0.10, guardrail equal (margin .03)/1,600",
        "match/truly equal, twice as fast/1,000",
    ],
)
def test_a_gate_sees_what_is_there(name: str) -> None:
    """The errors above must not be bought with a gate that never says anything."""
    assert said(name, 40) >= MOSTLY * 40


def test_few_cases_never_make_a_wall() -> None:
    assert said("power/15 points below/100, 5 a source", 15) == 0


# ---------------------------------------------------------------- would it be noticed?


def _endless_reach(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wall, "REACH_LIMIT", 1.0)


def _short_bounds(patch: pytest.MonkeyPatch) -> None:
    exact = measures.korn_graubard
    patch.setattr(measures, "korn_graubard", lambda *a, **k: exact(*a, **{**k, "alpha": 0.3}))


def _looks_for_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(release, "alpha_of_look", lambda look: 0.05)


def _no_clusters(patch: pytest.MonkeyPatch) -> None:
    exact: Callable[..., Any] = pairs.paired_bounds
    patch.setattr(pairs, "paired_bounds", lambda d, clusters, **k: exact(d, None, **k))


def _missing_count_as_missed(patch: pytest.MonkeyPatch) -> None:
    exact = measures.at_worst
    patch.setattr(measures, "at_worst", lambda values, missing: exact(values, missing=0.0))


@pytest.mark.parametrize(
    ("break_it", "name", "runs"),
    [
        (_endless_reach, "next/the same, wide/4,000", 80),
        (_short_bounds, "joint/one prompt exactly at the target/1,000, 5 a source", 50),
        (
            _missing_count_as_missed,
            "joint/one exactly at the target; 2 % missing, all of them solved/300", 50,
        ),
        (_looks_for_free, "looks/ten equal candidates in turn/300", 80),
        (_no_clusters, "no gain/equal arms/500, 10 a source", 200),
    ],
)  # fmt: skip
def test_a_broken_gate_is_noticed(
    break_it: Callable[[pytest.MonkeyPatch], None],
    name: str,
    runs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_it(monkeypatch)
    assert said(name, runs) > most(runs)


def test_a_cell_gives_the_same_counts_again_and_counts_the_worlds_it_passed_over() -> None:
    cell: Cell = CELLS["next/climbing/300"]
    one, again = count(cell, runs=5), count(cell, runs=5)
    assert one == again
    assert one.drawn > one.runs == 5
