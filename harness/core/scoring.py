"""From scores to the one number of a case. Knows nothing of who scored.

Misses, faults and unscored cases are three things: a miss is 0; a fault of the system under test
is 0 and counted as a fault; infrastructure trouble is missing (NaN); unscored is left out, said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from harness.core.repeats import case_value, parse_verdict
from harness.records import Fault, Run, Score, Trial

ALL = "all"


def is_unscored(trial: Trial, score: Score) -> bool:
    """Tell a score that had nothing to measure from one that a fault made missing."""
    if score.value is not None or score.is_fault:
        return False
    # records of before `is_fault` say of no score of a faulted trial which of the two it is
    return trial.fault is None or any(s.is_fault for s in trial.scores)


def trial_value(trial: Trial, primary: str) -> float | None:
    """Return the primary score of a trial: NaN where missing, None where unscored or not asked for.

    `primary` names one score, or is `all`: 1 if every scored one is 1. An eval that crashed, or a
    judge that did not answer, makes the scores missing that depend on it, and no other. A trial
    without any score, as of a reply that never came, lacks every one.
    """
    asked = [s for s in trial.scores if primary in (ALL, s.name)]
    if trial.scores and not asked:
        return None  # its eval did not run, as with `-k`: what went wrong says nothing of it
    fault = trial.fault
    if fault is not None and not (fault.origin == "eval" or _is_of_the_harness(fault)):
        return math.nan if fault.is_missing else 0.0
    values = [s.value for s in asked if s.value is not None]
    if trial.fault is not None and (primary == ALL or any(s.is_fault for s in asked)):
        return math.nan
    if trial.fault is not None and not values:
        # records of before `is_fault` tell no broken score from one without anything to measure
        is_told = bool(asked) and any(s.is_fault for s in trial.scores)
        return None if is_told else math.nan
    if not values:
        return None
    return float(all(v >= 1 for v in values)) if primary == ALL else fmean(values)


def _is_of_the_harness(fault: Fault) -> bool:
    # a reply that was never asked for has no score at all, so it stays missing below
    return fault.origin == "harness" and fault.is_missing


def case_values(run: Run, primary: str) -> dict[str, float | None]:
    """Return one value a case, by the run's `repeat_verdict`: NaN missing, None unscored.

    Where nothing but evals over all trials ran, no case has a score.
    """
    if run.aggregates and not any(t.scores for t in run.trials):
        return dict.fromkeys(t.case_id for t in run.trials)
    verdict = parse_verdict(run.repeat_verdict)
    by_case: dict[str, list[float | None]] = {}
    for trial in run.trials:
        by_case.setdefault(trial.case_id, []).append(trial_value(trial, primary))
    return {case: case_value(values, verdict) for case, values in by_case.items()}


def score_names(runs: Iterable[Run]) -> list[str]:
    """Return the names of the case scores of `runs`, sorted."""
    return sorted({s.name for run in runs for t in run.trials for s in t.scores})


def table_values(
    runs: Sequence[Run], primary: str, *, cases: Sequence[str]
) -> tuple[list[str], list[list[float]]]:
    """Return the cases that every run scored, and their values: shape (cases, runs), NaN missing.

    A case that some run left unscored (no reference) is left out for all, so that rows align.
    """
    columns: list[Mapping[str, float | None]] = [case_values(run, primary) for run in runs]
    kept = [c for c in cases if all(col.get(c, math.nan) is not None for col in columns)]
    table = [[_number(col.get(c, math.nan)) for col in columns] for c in kept]
    return kept, table


def _number(value: float | None) -> float:
    return math.nan if value is None else value
