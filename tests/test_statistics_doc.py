"""The page on statistics names code and quotes numbers: both must be those of the program."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from harness.core.coverage import PROFILES
from harness.core.forecast import wall_power
from harness.core.looks import alpha_left, alpha_of_look
from harness.core.planning import cases_for_wall, independent
from tests.studies.calibrate.table import (
    END,
    SECTIONS,
    START,
    page_block,
    read,
    report_text,
    standing,
)

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
FILES = ("md", "py", "toml", "json")
NAMES = sorted(
    name
    for name in set(re.findall(r"`([a-z_]+(?:\.\w+)+)`", PAGE))
    if name.rpartition(".")[2] not in FILES
)
MODULES = (
    "audit", "bounds", "ceilings", "corrections", "coverage", "forecast", "looks", "measures",
    "needs", "pairs", "parity", "planning", "preferences", "reach", "release", "release_checks",
    "sequences", "tries", "wall",
)  # fmt: skip


def named(dotted: str) -> Any:
    """What `module.name` is in harness/core; of a field or an argument, its default."""
    module, *path = dotted.split(".")
    found: Any = importlib.import_module(f"harness.core.{module}")
    for name in path:
        defaults: dict[str, Any] = {}
        if dataclasses.is_dataclass(found):
            defaults = {f.name: f.default for f in dataclasses.fields(found)}
        elif inspect.isfunction(found):
            defaults = {p.name: p.default for p in inspect.signature(found).parameters.values()}
        found = defaults[name] if name in defaults else getattr(found, name)
    return found


def table(mark: str) -> list[list[str]]:
    """The cells of the table that follows `<!-- mark -->`, without its head."""
    after = PAGE.partition(f"<!-- {mark} -->")[2].partition("<!--")[0]
    rows = [line for line in after.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_exists(name: str) -> None:
    assert named(name) is not inspect.Parameter.empty


def test_a_name_that_does_not_exist_is_found_out() -> None:
    """A guard that cannot fail guards nothing."""
    with pytest.raises(AttributeError):
        named("wall.judge_the_wall")
    with pytest.raises(ModuleNotFoundError):
        named("walls.judge_wall")


@pytest.mark.parametrize("module", MODULES)
def test_the_page_leads_to_every_module_that_decides(module: str) -> None:
    assert [name for name in NAMES if name.startswith(f"{module}.")]


@pytest.mark.parametrize("row", table("constants"), ids=lambda row: row[0])
def test_a_quoted_constant_is_that_of_the_code(row: list[str]) -> None:
    assert float(row[1]) == pytest.approx(named(row[0].strip("`")), rel=1e-12)


def test_the_limits_that_verdicts_hang_on_are_quoted() -> None:
    """So that a row cannot be dropped in silence."""
    quoted = {row[0].strip("`") for row in table("constants")}
    assert quoted >= {
        "reach.REACH_LIMIT", "reach.TREND_ALPHA", "wall.MISSING_LIMIT", "pairs.MISSING_LIMIT",
        "needs.CLUSTERS_FOR_WALL", "planning.CLUSTERS_FOR_ANY", "measures.LARGEST_SHARE",
        "release.MOST_MUST_HOLD_SLICES", "release.judge_release.min_gain",
    }  # fmt: skip


def test_the_profiles_are_those_of_the_code() -> None:
    rows = {name: (int(k), int(f), int(e)) for name, k, f, e, _ in table("profiles")}
    assert rows == {p.name: (p.tries, p.families, p.tries_each) for p in PROFILES.values()}
    assert [PROFILES["quick"].horizon(k) for k in (7, 28)] == [1, 1]
    assert [PROFILES["standard"].horizon(k) for k in (14, 20, 21, 28)] == [2, 2, 3, 4]


def test_the_table_of_looks_is_what_they_spend() -> None:
    rows = table("looks")
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5]
    for look, spends, leaves in rows:
        assert float(spends) == pytest.approx(alpha_of_look(int(look)), abs=5e-6)
        assert float(leaves) == pytest.approx(alpha_left(int(look)), abs=5e-6)


def test_the_rule_of_seven_is_computed_rightly() -> None:
    def bound(m: int, ahead: int) -> float:
        return float((m / (m + ahead)) ** (m / ahead) * ahead / (m + ahead))

    said = {(14, 2): "4.91 %", (10, 3): "9.6 %", (5, 3): "17 %"}
    for (m, ahead), text in said.items():
        assert text in PAGE
        digits = len(text.partition(".")[2].split(" ")[0])
        assert f"{100 * bound(m, ahead):.{digits}f} %" == text


def test_the_forecast_in_brackets_is_what_the_forecast_says() -> None:
    rows = re.findall(r"^\| (40|60|150) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(cases) for cases, _ in rows] == [40, 60, 150]
    for cases, cells in rows:
        for gap, cell in zip((0.10, 0.15, 0.20, 0.30), cells.split("|"), strict=True):
            said = float(cell.partition("(")[2].partition(")")[0])
            assert wall_power(int(cases), gap=gap) == pytest.approx(said, abs=0.02)


def test_the_rule_of_thumb_is_what_the_tool_says() -> None:
    rule = PAGE.partition("As a rule of thumb")[2].partition("\n\n")[0].replace("\n", " ")
    fifteen, ten, five = (cases_for_wall(gap, target=0.80) for gap in (0.15, 0.10, 0.05))
    assert f"have {fifteen} independent cases when prompts stay 15 points below" in rule
    assert f"{ten} at 10 points and {five} at 5 points" in rule
    assert f"{500 / independent(500, 100):.1f} times as many when five cases share" in rule
    for said, cases, gap in ((".68 with 800", 800, 0.05), (".80 with 2,000", 2000, 0.05),
                             (".45 with 2,000", 2000, 0.03)):  # fmt: skip
        assert said in rule
        assert wall_power(cases, gap=gap) == pytest.approx(float(said[:3]), abs=0.01)


def test_the_tables_of_the_calibration_are_those_of_its_committed_counts() -> None:
    counts = read(ROOT / "reports/calibration.json")
    shown = PAGE.partition(START)[2].partition(END)[0].strip()
    assert shown == page_block(counts).strip(), "run `make calibrate`, or it with --report"
    report = (ROOT / "reports/calibration.md").read_text(encoding="utf-8")
    assert report == report_text(counts)


def test_no_promise_of_the_calibration_is_broken_and_each_rests_on_a_thousand_runs() -> None:
    rows = read(ROOT / "reports/calibration.json")["cells"]
    assert {row["section"] for row in rows} == set(SECTIONS)
    assert min(row["runs"] for row in rows) >= 1000
    assert [row for row in rows if standing(row) == "**broken**"] == []
