from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.usage import Usage
from harness.records import Candidate, Estimate, Fault, Run, Score, Trial, Try
from harness.surface.tables import WIDEST, ladder_table, run_table
from harness.surface.words import sentence

NAMES = ("asynchronous", "checks", "closeness", "polite", "right", "short")


def run_of(
    name: str, *, scores: tuple[str, ...], repeats: int = 1, fault: Fault | None = None
) -> Run:
    """Three cases: the first misses `right` at every repeat, `checks` are unscored."""

    def score(which: str, case: int) -> Score:
        if which == "checks":
            return Score(name=which, value=None, reason="no checks of its own")
        if which == "right" and case == 0:
            return Score(name=which, value=0.0, reason="assert 1 == 2\n  more")
        return Score(name=which, value=1.0)

    return Run(
        task="t",
        split="dev",
        candidate=Candidate(name=name, backend="s:m"),
        inputs_digest="a",
        labels_digest="b",
        evals_digest="c",
        is_complete=True,
        repeats=repeats,
        repeat_verdict="2 of 3" if repeats > 1 else None,
        trials=tuple(
            Trial(
                case_id=f"c{case}",
                repeat=repeat,
                scores=tuple(score(which, case) for which in scores),
                fault=fault,
            )
            for case in range(3)
            for repeat in range(repeats)
        ),
    )


def lines_of(*runs: Run) -> list[str]:
    return run_table(
        runs,
        clusters={"t": {}},
        primaries={"t": "right"},
        usages={run.id: Usage(replies=3) for run in runs},
    )


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as a log, whatever this suite runs in."""
    monkeypatch.setenv("COLUMNS", str(WIDEST))


def test_a_table_that_fits_has_one_row_a_candidate() -> None:
    lines = lines_of(run_of("plain", scores=("right",)))
    assert next(line for line in lines if line.startswith("candidate")).split()[:3] == [
        "candidate",
        "cases",
        "right*",
    ]
    assert sum(line.startswith("plain ") for line in lines) == 1


def test_no_table_is_wider_than_a_terminal_however_many_scores_and_candidates() -> None:
    names = [f"a-prompt-with-a-long-name-{n}" for n in range(7)]
    lines = lines_of(*(run_of(name, scores=NAMES) for name in names))
    assert max(map(len, lines)) <= WIDEST
    heads = [line.split()[1:] for line in lines if line.startswith("candidate ")]
    assert len(heads) > 1  # as many tables as it takes
    assert [name for head in heads for name in head] == names
    assert sum(line.startswith("right* ") for line in lines) == len(heads)
    assert sum(line.startswith("run ") for line in lines) == len(heads)


def test_a_miss_is_told_once_with_how_many_repeats_missed() -> None:
    lines = lines_of(run_of("plain", scores=NAMES, repeats=3))
    assert [line for line in lines if line.startswith("m ")] == [
        "m plain c0 right (3 of 3 repeats): assert 1 == 2"
    ]
    assert next(line for line in lines if line.startswith("repeats ")).endswith("3: 2 of 3")


def test_why_a_score_is_missing_is_told_once_with_its_cases() -> None:
    unscored = "u plain checks, 3 cases: no checks of its own"
    assert unscored in lines_of(run_of("plain", scores=NAMES, repeats=3))
    down = Fault(origin="backend", message="down", is_missing=True)
    assert unscored not in lines_of(run_of("plain", scores=NAMES, fault=down))


def test_a_message_ends_once() -> None:
    assert sentence("Is it right?") == "Is it right?"
    assert sentence("two\nlines") == "two lines."
    assert sentence("done.") == "done."


def test_a_ladder_fits_a_terminal_and_has_no_column_that_says_nothing() -> None:
    half = Estimate(mean=0.5, lower=0.3, upper=0.7, n=20, clusters=20, alpha=0.05)
    rung = Try(
        candidate="instructions-last", family="dynamic-few-shot", run_id="ab" * 8, estimate=half,
        wins=2, losses=10, input_tokens=1808.0, output_tokens=148.0, latency_s=10.72,
    )  # fmt: skip
    lines = ladder_table([rung, rung], target=0.9)
    assert max(map(len, lines)) <= WIDEST
    assert not {"faults", "note", "cost"} & set(lines[0].split())
    told = ladder_table([rung, replace(rung, faults=3, is_counted=False)], target=0.9)
    assert told[0].split()[-3:] == ["faults", "run", "note"]
    assert told[-1].endswith("3       abababab  not counted")


def test_a_ladder_without_families_fits_a_narrow_terminal_as_well_as_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = Estimate(mean=0.5, lower=0.3, upper=0.7, n=20, clusters=20, alpha=0.05)
    monkeypatch.setenv("COLUMNS", "20")
    rung = Try(candidate="plain", family="", run_id="ab" * 8, estimate=half)
    assert ladder_table([rung], target=0.9)[0].split() == ["try", "score", "won/lost", "run"]


def test_tables_are_as_wide_as_the_terminal_lets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    half = Estimate(mean=0.5, lower=0.3, upper=0.7, n=20, clusters=20, alpha=0.05)
    rung = Try(
        candidate="instructions-last", family="dynamic-few-shot", run_id="ab" * 8, estimate=half,
        wins=2, losses=10, input_tokens=1808.0, output_tokens=148.0, latency_s=10.72,
    )  # fmt: skip
    for columns, has in ((160, (True, True)), (100, (False, True)), (80, (False, False))):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = ladder_table([rung], target=0.9)
        assert max(map(len, lines)) <= columns
        assert ("●" in lines[-1], "dynamic-few-shot" in lines[-1]) == has
        assert "50 % (30–70)" in lines[-1]
        many = lines_of(*(run_of(f"few-shot-{n}", scores=("right", "short")) for n in range(5)))
        assert max(map(len, many)) <= columns
