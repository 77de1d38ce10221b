"""Runs and ladders as tables of text. Knows nothing of where they were stored."""

from __future__ import annotations

import math
import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from tabulate import tabulate

from harness.core.means import mean_estimate
from harness.core.scoring import case_values, is_unscored, score_names
from harness.core.usage import Usage
from harness.core.words import count
from harness.errors import UsageError
from harness.records import Estimate, Run
from harness.surface.fault_lines import CAUSES_SHOWN, fault_lines
from harness.surface.words import clean, interval, money, number, one_line, points, seconds

if TYPE_CHECKING:
    from harness.records import Comparison, Try

MISSES_SHOWN = 3
UNSCORED = "unscored"
WIDEST = 120
"""The longest line of an eval run's table, in characters: a wider one is turned round."""


def estimate_of(
    run: Run,
    name: str,
    *,
    clusters: Mapping[str, str],
    only: Container[str] | None = None,
) -> Estimate | None:
    """Return the mean of a score with bounds that hold whatever its missing cases would have been.

    A missing case counts as failed in the mean and the lower bound, as passed in the upper one.
    None where no case (of `only`, where given) was measured: `why_no_score` says why.
    """
    every = case_values(run, name)
    values = {c: v for c, v in every.items() if v is not None and (only is None or c in only)}
    missing = sum(map(math.isnan, values.values()))
    if missing == len(values):
        return None
    groups = [clusters.get(c, c) for c in values]
    worst = mean_estimate([0.0 if math.isnan(v) else v for v in values.values()], groups)
    if not missing:
        return worst
    best = mean_estimate([1.0 if math.isnan(v) else v for v in values.values()], groups)
    return replace(worst, upper=best.upper)


def why_no_score(run: Run, name: str, *, only: Container[str] | None = None) -> str:
    """Return why `estimate_of` gives no number: UNSCORED, or what kept it from being measured."""
    every = case_values(run, name)
    values = [v for c, v in every.items() if only is None or c in only]
    if missing := sum(v is not None and math.isnan(v) for v in values):
        return f"not measured: {missing} of {len(values)} cases ended in a fault"
    mine = (t for t in run.trials if only is None or t.case_id in only)
    was_asked = any(name in ("all", s.name) for t in mine for s in t.scores)
    return UNSCORED if was_asked else "its eval did not run"


def score_cell(estimate: Estimate | None, why: str) -> str:
    """Return what a table shows of a score: its interval, `unscored`, or a dash."""
    if estimate is not None:
        return interval(estimate)
    return UNSCORED if why == UNSCORED else "–"


def run_table(
    runs: Sequence[Run],
    *,
    clusters: Mapping[str, Mapping[str, str]],
    primaries: Mapping[str, str],
    usages: Mapping[str, Usage],
    told: str | None = None,
) -> list[str]:
    """Return the lines that end an eval run: one table a task, then the first misses.

    `told` is a cause of faults that the caller's error will name.
    """
    lines: list[str] = []
    for task, some in groupby(sorted(runs, key=lambda r: r.task), key=lambda r: r.task):
        group = list(some)
        names = score_names(group)
        primary = primaries.get(task, "all")
        columns = ["all", *names] if len(names) > 1 else names
        has_repeats = any(run.repeats > 1 for run in group)
        rows = []
        for run in group:
            spent = usages.get(run.id, Usage(replies=0))
            rows.append(
                [clean(run.candidate.name), len({t.case_id for t in run.trials})]
                + [_score(run, n, clusters=clusters[task]) for n in columns]
                + [*counts(run), number(spent.input_tokens), number(spent.output_tokens)]
                + [seconds(spent.latency_s)]
                + ([money(spent.cost_usd)] if _has_cost(usages) else [])
                + ([_repeats(run)] if has_repeats else [])
                + [run.id[:8] + ("" if run.is_complete else " partial")]
            )
        heads = ["candidate", "cases", *(f"{n}*" if n == primary else n for n in columns)]
        heads += ["faults", "unscored", "tokens in", "out", "median"]
        heads += ["cost"] if _has_cost(usages) else []
        heads += (["repeats"] if has_repeats else []) + ["run"]
        lines += ["", f"{task}, {group[0].split} split", ""]
        lines += _fitting([str(h) for h in heads], [[str(c) for c in row] for row in rows])
        lines += ["", "* primary; intervals are 95 % one-sided bounds over clusters of cases"]
        if any(_is_filled(run, n) for run in group for n in columns):
            lines += [
                "  a score that a fault kept away counts as failed, in the upper bound as passed"
            ]
        lines += [*aggregate_lines(group), *fault_lines(group, told=told)]
        lines += [*miss_lines(group), *unscored_lines(group), ""]
    return lines


def _score(run: Run, name: str, *, clusters: Mapping[str, str]) -> str:
    estimate = estimate_of(run, name, clusters=clusters)
    return score_cell(estimate, "" if estimate else why_no_score(run, name))


def _is_filled(run: Run, name: str) -> bool:
    """Tell whether a mean counts cases that a fault kept from being measured."""
    if all(t.fault is None for t in run.trials):
        return False
    values = [v for v in case_values(run, name).values() if v is not None]
    return 0 < sum(map(math.isnan, values)) < len(values)


def _fitting(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table of one row a candidate; turned round where that would be too wide.

    Turned, there is one column a candidate and one row a score and fact, in as many tables one
    below the other as the candidates need. The candidate is the first cell of a row.
    """
    lines, room = _plain(heads, rows), min(WIDEST, _terminal_width())
    if max(map(len, lines)) <= room:
        return lines
    turned: list[str] = []
    some: list[Sequence[str]] = []
    for row in rows:
        if some and _turned_width(heads, [*some, row]) > room:
            turned += [*_turned(heads, some), ""]
            some = []
        some.append(row)
    return turned + _turned(heads, some)


def _terminal_width() -> int:
    """Return how many characters fit on a line; WIDEST where no terminal says so, as in a log."""
    return shutil.get_terminal_size((WIDEST, 24)).columns


def _turned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [list(column) for column in zip(heads, *rows, strict=True)]
    return _plain(cells[0], cells[1:])


def _turned_width(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return max(map(len, _turned(heads, rows)))


def _plain(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    # not the format `simple`: it makes every column two characters wider than its head
    rules = ["-" * max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    table = tabulate([heads, rules, *rows], tablefmt="plain", disable_numparse=True)
    return [line.rstrip() for line in table.split("\n")]


def counts(run: Run) -> list[int]:
    """Return the faults and the unscored scores of a run."""
    unscored = sum(is_unscored(t, s) for t in run.trials for s in t.scores)
    return [sum(t.fault is not None for t in run.trials), unscored]


def aggregate_lines(runs: Sequence[Run]) -> list[str]:
    """Return the scores that evals gave to all trials of a candidate together."""
    return [
        f"{clean(run.candidate.name)}: {score.name} over all trials: "
        + number(score.value, digits=3)
        + (f" ({one_line(score.reason)})" if score.reason else "")
        for run in runs
        for score in run.aggregates
    ]


def miss_lines(runs: Sequence[Run]) -> list[str]:
    """Return the first misses of each run, with their reasons on one line."""
    lines = []
    for run in runs:
        name = clean(run.candidate.name)
        missed: dict[tuple[str, str], list[str]] = {}  # the reasons of each repeat that missed
        for trial in run.trials:
            for score in trial.scores:
                if score.value is not None and score.value < 1 and score.reason:
                    missed.setdefault((trial.case_id, score.name), []).append(score.reason)
        for (case_id, score_name), reasons in list(missed.items())[:MISSES_SHOWN]:
            reason = one_line(reasons[0].partition("\n")[0], width=110)
            times = f" ({len(reasons)} of {run.repeats} repeats)" if run.repeats > 1 else ""
            lines.append(f"m {name} {clean(case_id)} {score_name}{times}: {reason}")
        if len(missed) > MISSES_SHOWN:
            more = len(missed) - MISSES_SHOWN
            lines.append(f"  … and {more} more of {name}: harness runs {run.id[:8]}")
    return lines


def unscored_lines(runs: Sequence[Run]) -> list[str]:
    """Return why scores are missing where nothing went wrong, each reason once with its cases."""
    lines = []
    for run in runs:
        cases: dict[tuple[str, str], set[str]] = {}
        for trial in run.trials:
            for score in trial.scores:
                if is_unscored(trial, score):
                    why = score.reason.partition("\n")[0]
                    cases.setdefault((score.name, why), set()).add(trial.case_id)
        for (score_name, why), ids in list(cases.items())[:CAUSES_SHOWN]:
            count = "1 case" if len(ids) == 1 else f"{len(ids)} cases"
            reason = one_line(why, width=110) or "no reason given"
            lines.append(f"u {clean(run.candidate.name)} {score_name}, {count}: {reason}")
        if len(cases) > CAUSES_SHOWN:
            lines.append(f"  … and {len(cases) - CAUSES_SHOWN} other reasons")
    return lines


def ladder_table(tries: Sequence[Try], *, target: float) -> list[str]:
    """Return the ladder as a table, in the order in which the tries were made; without its bar,
    and then without the families, where lines would be longer than the terminal is wide.
    """
    has_cost = any(t.cost_usd is not None for t in tries)
    rows = [
        [
            clean(t.candidate),
            t.family,
            interval(t.estimate),
            _bar(t.estimate, target) if t.estimate.n else "",
            f"{t.wins}/{t.losses}",
            number(t.input_tokens),
            number(t.output_tokens),
            seconds(t.latency_s),
            *([money(t.cost_usd)] if has_cost else []),
            # of scores that came from elsewhere, no fault is known
            str(t.faults or (t.missing if t.is_counted else 0) or ""),
            t.run_id[:8],
            "" if t.is_counted else t.note or "not counted",
        ]
        for t in tries
    ]
    bar = f"0 {' ' * 14}100"
    heads = ["try", "family", "score", bar, "won/lost", "tokens in", "out"]
    heads += ["median", *(["cost"] if has_cost else []), "faults", "run", "note"]
    heads, rows = without_blank(heads, rows)
    for spare in (bar, "family"):
        if spare in heads and max(map(len, _plain(heads, rows))) > _terminal_width():
            at = heads.index(spare)
            heads, *rows = ([*line[:at], *line[at + 1 :]] for line in (heads, *rows))
    return _plain(heads, rows)


def without_blank(
    heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Return a table without the columns that say nothing in any row: lines are short of room."""
    kept = [i for i in range(len(heads)) if any(row[i] not in {"", "–"} for row in rows)]
    return [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return a paired comparison in a few lines."""
    c = comparison
    rows = [
        [f"baseline {clean(c.baseline)}", interval(c.baseline_estimate), c.baseline_run[:8]],
        [f"candidate {clean(c.candidate)}", interval(c.candidate_estimate), c.candidate_run[:8]],
        [
            "difference, points",
            f"{points(c.delta)}, each bound {100 * (1 - c.delta.alpha):g} % sure",
            f"{c.wins} won, {c.losses} lost, {c.ties} tied",
        ],
    ]
    lines = tabulate(rows, tablefmt="plain", disable_numparse=True).split("\n")
    if c.missing:
        lost = f"{count(c.missing, 'case')} missing in one of the two"
        lines.append(f"{lost}: taken at the worst in each bound, left out of the difference")
    return lines


def floor_lines(
    runs: Sequence[Run], floors: Sequence[str], *, clusters: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return a line for each floor that a run is below, or that it has no score for."""
    broken = []
    for floor in floors:
        name, least = floor_of(floor)
        for run in runs:
            who = f"{name} of {clean(run.candidate.name)}"
            over_all = next((s.value for s in run.aggregates if s.name == name), None)
            estimate = estimate_of(run, name, clusters=clusters.get(run.task, {}))
            mean = estimate.mean if estimate else over_all
            if mean is None:
                broken.append(f"floor: {who} was not scored, {100 * least:g} % needed")
            elif mean < least:
                shown = interval(estimate) if estimate else f"{100 * mean:.0f} %"
                broken.append(f"floor: {who} is {shown}, below {100 * least:g} %")
    return broken


def check_floors(floors: Sequence[str], *, known: Sequence[str]) -> None:
    """Raise UsageError for a floor that cannot be held, before anything is asked."""
    for floor in floors:
        name, _ = floor_of(floor)
        if name not in {*known, "all"}:
            raise UsageError(f"--floor: no score {name!r}. Scores: {', '.join(known)}, or all.")


def floor_of(floor: str) -> tuple[str, float]:
    """Return the score and the least value that `SCORE=VALUE` names. Raises UsageError."""
    name, _, text = floor.partition("=")
    try:
        least = float(text)
    except ValueError:
        least = math.nan
    if math.isnan(least):
        raise UsageError(f"--floor {floor!r} is not SCORE=VALUE, as in valid=0.9")
    if not 0 <= least <= 1:
        raise UsageError(
            f"--floor {floor!r}: a floor is the least mean that a score may have, a number from 0 "
            f"to 1, as in {name}=0.9 for 90 %"
        )
    return name, least


def _repeats(run: Run) -> str:
    """Say how often each case was asked, and how that became one number, where more than once."""
    return "1" if run.repeats == 1 else f"{run.repeats}: {run.repeat_verdict or 'mean'}"


def _has_cost(usages: Mapping[str, Usage]) -> bool:
    return any(u.cost_usd is not None for u in usages.values())


def _bar(estimate: Estimate, target: float, *, width: int = 20) -> str:
    """Draw an interval on a line from 0 to 100 %, the target as a bar, in `width` characters."""
    cells = ["·"] * width
    for place in range(_cell(estimate.lower, width), _cell(estimate.upper, width) + 1):
        cells[place] = "─"
    cells[_cell(target, width)] = "│"
    cells[_cell(estimate.mean, width)] = "●"
    return "".join(cells)


def _cell(share: float, width: int) -> int:
    return min(width - 1, max(0, int(share * width)))
