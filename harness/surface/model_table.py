"""A model ladder as a table of text. Knows nothing of where the runs were stored."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from harness.core.money import usd
from harness.engine.model_ladder import Rung
from harness.records import Estimate
from harness.surface.words import clean, interval, number, points, seconds


def model_table(rungs: Sequence[Rung], *, target: float) -> list[str]:
    """Return the rungs as a table, models in the order given; they are no tries."""
    if not rungs:
        return ["no complete run of these models is recorded"]
    rows = [
        [
            clean(r.model) + (" (the task's)" if r.is_own else ""),
            clean(r.prompt),
            interval(r.estimate),
            "" if r.delta is None else points(r.delta),
            reaches(r.estimate, target),
            number(r.input_tokens),
            number(r.output_tokens),
            seconds(r.latency_s),
            "–" if r.cost_usd is None else usd(r.cost_usd),
            "yes" if r.is_within_budget else "no",
            r.missing or "",
        ]
        for r in rungs
    ]
    heads = ["model", "prompt", "score", "to the task's model", f"reaches {100 * target:g} %"]
    heads += ["tokens in", "out", "median", "cost a case", "in budget", "missing"]
    return [
        *tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True).split("\n"),
        "",
        "models in the order given; other models than the task's are shown, never counted as tries",
    ]


def reaches(estimate: Estimate, target: float) -> str:
    """Return whether an estimate reaches the target: shown, on the mean alone, open, or not."""
    if estimate.lower >= target:
        return "yes, shown"
    if estimate.mean >= target:
        return "on the mean"
    return "not shown" if estimate.upper >= target else "no"
