"""Runs one cell by its name. A module of its own, since a new process imports no `__main__`."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.studies.calibrate.cells import Cell, Count, count
from tests.studies.calibrate.release_study import release_cells
from tests.studies.calibrate.wall_study import wall_cells


def all_cells() -> list[Cell]:
    """Every cell, in the order of the report."""
    return wall_cells() + release_cells()


def run_cell(name: str, *, runs: int) -> Count:
    """Return the counts of a cell. Runs in a process of its own, so a cell goes by its name."""
    cell = next(cell for cell in all_cells() if cell.id == name)
    started = time.perf_counter()
    found = count(cell, runs=runs * cell.times)
    return replace(found, seconds=time.perf_counter() - started)
