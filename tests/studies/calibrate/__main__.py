"""`make calibrate`: runs every cell, resumes where it was stopped, writes report and page.

Each finished cell is a line of `.harness/calibrate.jsonl`, which holds for the same runs and the
same code; `--fresh` forgets it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from tests.studies.calibrate.cells import Count
from tests.studies.calibrate.release_study import judged as release_of, pair_of
from tests.studies.calibrate.running import all_cells, run_cell
from tests.studies.calibrate.table import into_page, report_text, standing, to_json
from tests.studies.calibrate.wall_study import judged as wall_of
from tests.studies.calibrate.worlds import Data, draw_scores, plateau

ROOT = Path(__file__).resolve().parents[3]
LEAST_RUNS = 1000
DEAR = ("power", "ship", "joint")
"""Sections that judge after every try, and so come last, in this order."""


def code_digest() -> str:
    """Identity of what the gates say and of the worlds: counts of two codes are never mixed.

    Of the gates it is their answers and numbers on seeded tables, so that words may change.
    """
    rng = np.random.default_rng(20)
    said: list[object] = []
    for cases, tries, gap in product((40, 150, 600), (7, 14, 21), (-0.08, 0.0, 0.05, 0.12, 0.3)):
        data = Data(cases=cases, each=1 + 4 * (tries == 21))
        table = draw_scores(rng, plateau(rng, tries, gap=gap), data)
        if tries == 14:
            table[rng.random(table.shape) < 0.005] = np.nan
        wall = wall_of(table, data, profile="quick" if tries == 7 else "standard")
        numbers = [wall.reach, wall.resolution, *(t.estimate.upper for t in wall.tries)]
        said.append([wall.answer, wall.horizon, wall.is_climbing, *map(_rounded, numbers)])
        ship = release_of(pair_of("primary", table, data), look=1 + cases % 3)
        delta = ship.comparison.delta
        said.append([ship.answer, *map(_rounded, (ship.alpha, delta.lower, delta.upper))])
    for name in ("worlds", "wall_study", "release_study"):
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        said.append(ast.dump(tree))
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def done_before(path: Path, *, code: str, runs: int) -> dict[str, Count]:
    """Return the cells that an earlier start finished with this code."""
    if not path.exists():
        return {}
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # the line that a stopped start was writing
            continue
    return {
        row["count"]["id"]: Count(**row["count"])
        for row in rows
        if (row["code"], row["asked"]) == (code, runs)
    }


def run_all(names: Sequence[str], *, runs: int, processes: int) -> Iterator[Count]:
    """Yield counts as cells finish."""
    work = partial(run_cell, runs=runs)
    if processes == 1:
        yield from map(work, names)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(work, names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then write `calibration.json`, `calibration.md` and the page."""
    parser = argparse.ArgumentParser(prog="make calibrate", description=__doc__)
    parser.add_argument("--runs", type=int, default=LEAST_RUNS, help="runs a cell, at least")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", default="", help="cells whose name contains this; writes nothing")
    parser.add_argument("--report", action="store_true", help="write what is done, run nothing")
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    parser.add_argument("--out", type=Path, default=ROOT / "reports")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/statistics.md")
    asked = parser.parse_args(arguments)
    work = ROOT / ".harness/calibrate.jsonl"
    work.parent.mkdir(exist_ok=True)
    if asked.fresh:
        work.unlink(missing_ok=True)
    code = code_digest()
    cells = [cell for cell in all_cells() if asked.only in cell.id]
    counts = done_before(work, code=code, runs=asked.runs)
    names = [cell.id for cell in cells if cell.id not in counts and not asked.report]
    names.sort(key=lambda name: DEAR.index(s) if (s := name.split("/")[0]) in DEAR else -1)
    by_id = {cell.id: cell for cell in cells}
    print(f"{len(cells)} cells, {len(counts)} done before", flush=True)
    for found in run_all(names, runs=asked.runs, processes=asked.processes):
        counts[found.id] = found
        with work.open("a", encoding="utf-8") as file:
            row = {"code": code, "asked": asked.runs, "count": asdict(found)}
            file.write(json.dumps(row) + "\n")
        rates = {rule: round(n / found.runs, 3) for rule, n in found.said.items()}
        print(f"{found.seconds:6.1f} s  {found.id}  {rates}", flush=True)
    made = to_json(cells, counts, code=code)
    if not asked.only:
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        (asked.out / "calibration.json").write_text(text, encoding="utf-8")
        (asked.out / "calibration.md").write_text(report_text(made), encoding="utf-8")
        into_page(asked.page, made)
    broken = [row for row in made["cells"] if standing(row) == "**broken**"]
    for row in broken:
        print(f"broken: {row['section']}, {row['world']}, {row['cases']}")
    print(f"{sum(c.seconds for c in counts.values() if c.id in by_id) / 60:.0f} min of one core")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
