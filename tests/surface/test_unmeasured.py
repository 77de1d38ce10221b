"""What nobody measured is no number: a dash with its faults, in every table, page and record."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.core.means import mean_estimate
from harness.errors import BackendError
from harness.records import Estimate, Run
from harness.surface.slices import slice_lines, slices_of
from harness.surface.tables import UNSCORED, estimate_of, run_table, why_no_score
from harness.testing import make_run
from tests.surface.inprocess import Cli
from tests.surface.toy import sums

EVALS = """
def test_right(case, reply):
    assert reply.text == case.reference

def test_y(reply):
    assert reply.txt
"""
DOWN = BackendError("down")
TOO_LONG = BackendError("the prompt does not fit", is_systemic=True)


@pytest.fixture
def tagged(cli: Cli) -> Cli:
    """The toy with two tags, and an eval that breaks beside the primary one."""
    (cli.toy.task / "eval_toy.py").write_text(EVALS)
    rows = sums(["dev"] * 12)
    cli.toy.write_cases(
        [row | {"tags": ["odd" if n % 2 else "even"]} for n, row in enumerate(rows)]
    )
    return cli


def number_of(run: Run, name: str = "right") -> Estimate | None:
    return estimate_of(run, name, clusters={})


def shown(*runs: Run) -> str:
    primaries = {"task": "right"}
    return "\n".join(run_table(runs, clusters={"task": {}}, primaries=primaries, usages={}))


def test_a_score_whose_eval_did_not_run_is_shown_nowhere(tagged: Cli) -> None:
    some = ("eval", "toy", "--candidate", "plain")
    said = tagged(*some, "--floor", "right=0.5", "--", "-k", "test_y")
    table = said.out.partition("toy, dev split")[2].partition("short test summary")[0]
    assert "floor: right of plain was not scored, 50 % needed" in table
    assert "right*" not in table
    assert "tag " not in table
    assert not re.search(r"\d %", table.replace("50 % needed", "").replace("95 % one-sided", ""))
    told = json.loads(tagged(*some, "--json", "--", "-k", "test_y").out)
    assert told["slices"] == []
    # where it ran on one case alone, it is that case's score
    said = tagged(*some, "--", "-k", "test_y or c5")
    row = next(line for line in said.out.splitlines() if line.startswith("plain "))
    assert row.split("  ")[0] == "plain"
    assert "100 % (0–100)" in row
    assert re.search(r"^odd +plain +6 +100 % \(0–100\) +6$", said.out, re.MULTILINE)
    assert re.search(r"^even +plain +6 +– +6$", said.out, re.MULTILINE)


@pytest.mark.usefixtures("hurry")
def test_a_dead_server_has_faults_and_no_score(
    tagged: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODE", "down")
    said = tagged("eval", "toy", "--candidate", "plain", "--", "-k", "right")
    assert said.code == 4
    row = next(line for line in said.out.splitlines() if line.startswith("plain "))
    assert row.split()[:4] == ["plain", "12", "–", "12"]
    assert "tag " not in said.out
    tagged("eval", "toy", "--candidate", "plain")
    ladder = tagged("ladder", "toy", "--show").out
    rung = next(line for line in ladder.splitlines() if line.startswith("plain "))
    assert "%" not in rung
    assert "12" in rung.split()
    assert "24" not in rung.split()
    assert tagged("report", "toy", "--out", "page.html").code == 0
    page = Path("page.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<.*?>", " ", page))
    assert "plain zero-shot – –" in text
    assert re.search(r"even 6 – 6 faults", text)
    assert "plain: 0" not in text


@pytest.mark.usefixtures("hurry")
def test_nothing_is_compared_where_one_of_the_two_was_not_measured(tagged: Cli) -> None:
    tagged("eval", "toy", "--candidate", "plain")
    assert tagged("compare", "toy", "--candidate", "plain", "--bless", "b.json").code == 0
    tagged("eval", "toy", "--candidate", "shots", MODE="down")
    for baseline in ("plain", "b.json"):
        said = tagged("compare", "toy", "--candidate", "shots", "--baseline", baseline)
        assert said.code == 3
        assert "measured in both, for all 12 ended in a fault" in said.err
        assert "%" not in said.out
    tagged("eval", "toy", "--candidate", "shots", MODE="stranger")
    said = tagged("compare", "toy", "--candidate", "shots", "--baseline", "plain")
    assert "1 case missing in one of the two: taken at the worst in each bound" in said.out


def test_bounds_hold_whatever_the_missing_cases_would_have_been() -> None:
    scores = [1.0] * 6 + [0.0] * 3
    run = make_run([*scores, DOWN, DOWN])
    found = number_of(run)
    groups = [str(n) for n in range(11)]
    worst, best = (mean_estimate([*scores, v, v], groups) for v in (0.0, 1.0))
    assert found is not None
    assert (found.mean, found.lower, found.upper) == (worst.mean, worst.lower, best.upper)
    assert "counts as failed, in the upper bound as passed" in shown(run)
    # a fault of the model is its answer, and no case is filled
    failed = make_run([*scores, TOO_LONG, TOO_LONG])
    assert number_of(failed) == worst
    assert "in the upper bound" not in shown(failed)
    assert number_of(make_run([TOO_LONG] * 3)) == mean_estimate([0.0] * 3, groups[:3])


def test_why_there_is_no_number_is_said() -> None:
    down, unscored = make_run([DOWN] * 3), make_run([None] * 3)
    assert number_of(down) is number_of(unscored) is number_of(unscored, "other") is None
    assert why_no_score(down, "right") == "not measured: 3 of 3 cases ended in a fault"
    assert why_no_score(unscored, "right") == UNSCORED
    assert why_no_score(unscored, "other") == "its eval did not run"
    tags = {"c-001": ["a"], "c-002": ["b"], "c-003": ["b"]}
    half = make_run([1.0, DOWN, DOWN])
    first, second = slices_of([half], "right", tags=tags, clusters={})
    assert (first.tag, first.estimate, first.faults) == ("b", None, 2)
    assert first.reason == "not measured: 2 of 2 cases ended in a fault"
    assert (second.reason, second.faults) == ("", 0)
    lines = slice_lines([first, second])
    assert lines[0].split() == ["tag", "candidate", "cases", "right*", "faults"]
    assert lines[2].split()[-3:] == ["2", "–", "2"]
    assert slice_lines(slices_of([down], "right", tags=tags, clusters={})) == []
