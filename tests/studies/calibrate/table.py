"""The calibration as tables: counts in, Markdown out. Knows no worlds and no gates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.flaky import wilson_bounds
from tests.studies.calibrate.cells import GATE, Cell, Count

START, END = "<!-- calibration -->", "<!-- end calibration -->"

SECTIONS: Mapping[str, tuple[str, str]] = {
    "next": (
        "False walls, given that the next tries will reach the target",
        (
            "P(`WALL` after 14 tries, none of them at the target, when one of the next 2 is). "
            "Where a success is rare nothing is promised of this rate but of the joint one: the "
            "last column is how often all three come together."
        ),
    ),
    "joint": (
        "False walls at some look",
        (
            "P(`WALL` at some look, and a tried prompt or one of the next K // 7 is truly at "
            "the target), judged again after every try from the 14th to the 21st (before, no "
            "rule here is asked and coverage forbids a wall). Labels that are wrong make true "
            "misses: no bound knows of them, which is why a wall asks for an audit."
        ),
    ),
    "power": (
        "Walls that are seen",
        (
            "P(`WALL` by the 21st try, or with profile quick by the 7th) on a true plateau "
            "whose best is expected that far below the target; beside it "
            "P(`INSUFFICIENT_EVIDENCE`) at the end, the rest is `KEEP_PROMPTING`."
        ),
    ),
    "ship": (
        "Prompts that ship",
        (
            "P(`SHIP_PROMPT`) after 20 tries. `gate` is one sealed look at the end, on 40 % of "
            "the cases, which no prompt was written against. The column before it is what "
            '"unconfirmed" rests on: all cases in dev, judged at nine looks on the way.'
        ),
    ),
    "bounds": (
        "Bounds of one mean",
        (
            "P(the bound is on the wrong side), each at 5 %; `gate` is the upper bound, on "
            "which a wall rests."
        ),
    ),
    "no gain": (
        "Releases without a gain",
        ("P(`SHIP`) where candidate and baseline are truly equal, at 5 %."),
    ),
    "guardrail": (
        "Guardrails that are truly broken",
        ("P(`SHIP`) though the guardrail loses its margin."),
    ),
    "beside": (
        "Releases with a guardrail or slices",
        ("P(`SHIP`), and P(`BLOCK`)."),
    ),
    "looks": (
        "Ten candidates in turn",
        ("P(`SHIP` of any of ten candidates, all equal to the baseline), each a further look."),
    ),
    "growing": (
        "An eval that grows",
        (
            "P(a gain is claimed at any of 20 looks) while cases arrive; `gate` is the "
            "confidence sequence (`sequences.paired_sequence`), which no command uses yet."
        ),
    ),
    "match": (
        "Goal match",
        ("P(`SHIP`) with a margin of .05 at .85, where the candidate has to be faster."),
    ),
    "budgets": (
        "Budgets",
        (
            "P(`SHIP`) where the truth is exactly at the limit. The t bound of a mean is short "
            "where costs are skewed: nothing is promised there."
        ),
    ),
}


def to_json(cells: Sequence[Cell], counts: Mapping[str, Count], *, code: str) -> dict[str, Any]:
    """Return what is committed: every cell with its counts. `code` names what was put through."""
    return {
        "code": code,
        "not_run": len(cells) - len(counts),
        "cells": [
            {
                "section": cell.section,
                "world": cell.world,
                "cases": cell.data,
                "claim": cell.claim,
                "is_power": cell.is_power,
                "runs": counts[cell.id].runs,
                "drawn": counts[cell.id].drawn,
                "said": counts[cell.id].said,
            }
            for cell in cells
            if cell.id in counts
        ],
    }


def rate_text(said: int, of: int) -> str:
    """Return `.035`."""
    return f"{said / of:.3f}".removeprefix("0")


def interval_text(said: int, of: int) -> str:
    """Return `.035 (.025 to .048)`: the rate and its 95 % interval (Wilson)."""
    low, high = (f"{bound:.3f}".removeprefix("0") for bound in wilson_bounds(said, of, alpha=0.025))
    return f"{rate_text(said, of)} ({low} to {high})"


def standing(row: Mapping[str, Any]) -> str:
    """Return what the counts say of the promise of a cell."""
    if row["claim"] is None:
        return "" if row["is_power"] else "none"
    low, high = wilson_bounds(row["said"].get(GATE, 0), row["runs"], alpha=0.025)
    if low > row["claim"]:
        return "**broken**"
    return "kept" if high <= row["claim"] else "not refuted"


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table: the gate with its interval, other rules plainly, and the promise."""
    others = [r for r in dict.fromkeys(r for row in rows for r in row["said"]) if r != GATE]
    is_power = all(row["is_power"] for row in rows)
    is_rare = any(row["drawn"] > row["runs"] for row in rows)
    head = ["world", "cases", *others, "gate (95 %)"]
    head += [] if is_power else ["at most .05"]
    head += ["runs"] + (["jointly"] if is_rare else [])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        runs, said = row["runs"], row["said"]
        cells = [row["world"], row["cases"]]
        cells += [rate_text(said[r], runs) if r in said else "" for r in others]
        cells.append(interval_text(said.get(GATE, 0), runs))
        cells += [] if is_power else [standing(row)]
        cells.append(f"{runs:,}")
        if is_rare:
            cells.append(rate_text(said.get(GATE, 0), row["drawn"]))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def sections_text(found: Mapping[str, Any], *, level: str = "##") -> str:
    """Return every section with its table."""
    parts = []
    for key, (title, words) in SECTIONS.items():
        rows = [row for row in found["cells"] if row["section"] == key]
        if rows:
            parts.append("\n".join([f"{level} {title}", "", words, "", *table_lines(rows)]))
    return "\n\n".join(parts)


def summary_text(found: Mapping[str, Any]) -> str:
    """Return how many promises stand."""
    claimed = [row for row in found["cells"] if row["claim"] is not None]
    kinds = [standing(row) for row in claimed]
    worst = max(claimed, key=lambda row: row["said"].get(GATE, 0) / row["runs"])
    worst_text = interval_text(worst["said"].get(GATE, 0), worst["runs"])
    return (
        f"{len(found['cells'])} cells, at least "
        f"{min(row['runs'] for row in found['cells']):,} runs each. In {len(claimed)} of them an "
        "error of at most .05 is promised: "
        f"{kinds.count('kept')} keep it (the whole interval is below), "
        f"{kinds.count('not refuted')} are not refuted (the interval holds .05) and "
        f"{kinds.count('**broken**')} break it. The "
        f"largest: {worst_text}, {worst['world']}, {worst['cases']} cases. A rule whose true error "
        "is exactly .05 comes out as broken once in 40 cells, by chance."
        + (f" {found['not_run']} more cells have not been run yet." if found["not_run"] else "")
    )


def report_text(found: Mapping[str, Any]) -> str:
    """Return the whole report."""
    return (
        "# Calibration: how often the gates err\n\n"
        "Written by `make calibrate`: worlds whose truth is known, put through the gates' own "
        "code (`judge_wall`, `judge_release`), with simpler rules beside them. Target .80, "
        "prompts scattered by .02 (wide: .05); [the page on statistics](../docs/statistics.md) "
        f"says what the words mean. Code: {found['code']}.\n\n"
        f"{summary_text(found)}\n\n{sections_text(found)}\n"
    )


def into_page(page: Path, found: Mapping[str, Any]) -> None:
    """Write the tables between the marks of the page."""
    text = page.read_text(encoding="utf-8")
    before, mark, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{page}: {START} and {END} are not both there")
    page.write_text(before + START + "\n\n" + page_block(found) + "\n\n" + END + after, "utf-8")


def page_block(found: Mapping[str, Any]) -> str:
    """Return what stands between the marks."""
    return f"{summary_text(found)}\n\n{sections_text(found, level='###')}"


def read(path: Path) -> dict[str, Any]:
    """Return a committed calibration."""
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
