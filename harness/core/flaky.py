"""Cases whose repeats both pass and miss. Knows nothing of why, or of how they are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from harness.core.scoring import trial_value
from harness.records import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyCase:
    """A case that passed `passed` of the `of` repeats that answered, with bounds of its rate."""

    case_id: str
    passed: int
    of: int
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flakiness:
    """The flaky cases of a run, the flakiest first, among the `cases` answered twice or more.

    `lower` and `upper` bound the share of flaky cases. More repeats find more of them.
    """

    cases: int
    flaky: tuple[FlakyCase, ...]
    lower: float
    upper: float


def flakiness(run: Run, primary: str) -> Flakiness | None:
    """Return which cases of `run` both pass and miss; None where none was answered twice.

    A failure of the system under test is a miss here; a missing or unscored repeat says nothing.
    """
    by_case: dict[str, list[float]] = {}
    for trial in run.trials:
        value = trial_value(trial, primary)
        if value is not None and not math.isnan(value):
            by_case.setdefault(trial.case_id, []).append(value)
    repeated = {c: v for c, v in by_case.items() if len(v) > 1}
    if not repeated:
        return None
    flaky = []
    for case_id, values in repeated.items():
        passed, of = sum(v >= 1 for v in values), len(values)
        if 0 < passed < of:
            lower, upper = wilson_bounds(passed, of)
            flaky.append(FlakyCase(case_id=case_id, passed=passed, of=of, lower=lower, upper=upper))
    flaky.sort(key=lambda f: (abs(f.passed / f.of - 0.5), -f.of))  # stable: ties as cases stand
    lower, upper = wilson_bounds(len(flaky), len(repeated))
    return Flakiness(cases=len(repeated), flaky=tuple(flaky), lower=lower, upper=upper)


def wilson_bounds(passed: int, of: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Return two one-sided bounds of a share, each at level `alpha`.

    Source: Wilson (1927), JASA 22:209-212. Checked against statsmodels' proportion_confint in
    tests/core/test_flaky.py.
    """
    z = NormalDist().inv_cdf(1 - alpha)
    share, weight = passed / of, 1 + z * z / of
    centre = (share + z * z / (2 * of)) / weight
    half = z / weight * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, centre - half), min(1.0, centre + half)
