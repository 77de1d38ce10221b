"""What kept replies away, each cause once. Knows nothing of backends but how the engine says that
one was tried, or was not asked any more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.records import Fault, Run, Trial
from harness.surface.words import clean, one_line

CAUSES_SHOWN = 3
CASES_SHOWN = 3
_DOWN = re.compile(r"\S+ is down: ")
_TRIES = re.compile(r" \(\d+ tries(; [^()]*)?\)$")


def fault_lines(runs: Sequence[Run], *, told: str | None = None) -> list[str]:
    """Return what kept replies away, each cause once with all candidates that it met, the most
    frequent first. One that is `told` elsewhere is left out where one candidate alone met it.
    """
    met: dict[str, list[str]] = {}
    often: Counter[str] = Counter()
    for run in runs:
        of_one: dict[str, list[Trial]] = {}
        for trial in run.trials:
            if trial.fault and trial.fault.origin != "eval":
                of_one.setdefault(cause_of(trial.fault), []).append(trial)
        for cause, some in of_one.items():
            met.setdefault(cause, []).append(
                f"{clean(run.candidate.name)} {len(some)} of {len(run.trials)}{which(some, of=run)}"
            )
            often[cause] += len(some)
    if told is not None and len(met.get(told, ())) == 1:
        del often[told]
    lines = [
        f"F {', '.join(met[cause])}: {one_line(cause, width=240)}"
        for cause, _ in often.most_common(CAUSES_SHOWN)
    ]
    if len(often) > CAUSES_SHOWN:
        lines.append(f"  … and {len(often) - CAUSES_SHOWN} other causes")
    return lines


def which(trials: Sequence[Trial], *, of: Run) -> str:
    """Return the cases that trials are of, in brackets; "" where they are all of a run."""
    cases = list(dict.fromkeys(t.case_id for t in trials))
    if len(trials) == len(of.trials):
        return ""
    more = [f"{len(cases) - CASES_SHOWN} more"] if len(cases) > CASES_SHOWN else []
    return f" ({', '.join([*map(clean, cases[:CASES_SHOWN]), *more])})"


def cause_of(fault: Fault) -> str:
    """Return what went wrong, alike for what was tried and for what was then not sent."""
    return _TRIES.sub(r"\1", _DOWN.sub("", fault.message, count=1))


def missing_replies(run: Run) -> list[tuple[Trial, Fault]]:
    """Return the trials to which a backend gave no answer, with their faults."""
    faults = [(t, t.fault) for t in run.trials if t.fault and t.fault.origin == "backend"]
    return [(trial, fault) for trial, fault in faults if fault.is_missing]


def cause_of_error(runs: Sequence[Run]) -> str | None:
    """Return the cause that `run_evals.completed` will name in its error, if there is one alone."""
    lost = next((some for run in runs if (some := missing_replies(run))), [])
    causes = {cause_of(fault) for _, fault in lost}
    return causes.pop() if len(causes) == 1 else None
