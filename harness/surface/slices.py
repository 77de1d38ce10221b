"""The primary score by tag, and the flaky cases: what stands under the table of an eval run.

Knows runs and tags; nothing of where they were stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from harness.core.flaky import Flakiness, flakiness
from harness.core.scoring import score_names
from harness.core.synth_origin import SYNTHETIC
from harness.engine.tasks import Task
from harness.records import Estimate, Run
from harness.surface.tables import estimate_of, score_cell, why_no_score
from harness.surface.words import clean

TAGS_SHOWN = 12
FLAKIEST_SHOWN = 5
COLLECTED = "collected"
ORIGIN = frozenset({COLLECTED, SYNTHETIC})
"""Where cases come from; where some were made, these slices stand first."""
Tags = Mapping[str, Sequence[str]]
"""Tags by case id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The primary score of one candidate over the cases of one tag; None where none was measured,
    with the `reason`. `faults` counts its trials that ended in one.
    """

    tag: str
    candidate: str
    run_id: str
    cases: int
    score: str
    estimate: Estimate | None
    faults: int = 0
    reason: str = ""


def slices_of(
    runs: Sequence[Run], primary: str, *, tags: Tags, clusters: Mapping[str, str]
) -> list[Slice]:
    """Return a slice a tag and run, the most frequent tags first; none where fewer than two tags,
    or where the eval of `primary` did not run.

    Tags are counted over the cases of the runs, each case once.
    """
    if primary not in ("all", *score_names(runs)):
        return []
    ran = {t.case_id for run in runs for t in run.trials}
    counts = Counter(tag for case_id in ran for tag in set(tags.get(case_id, ())))
    if len(counts) < 2:
        return []
    by_origin = SYNTHETIC in counts
    rank = sorted(counts, key=lambda tag: (not (by_origin and tag in ORIGIN), -counts[tag], tag))
    frequent = rank[:TAGS_SHOWN]
    slices = []
    for tag in frequent:
        for run in runs:
            mine = {t.case_id for t in run.trials if tag in tags.get(t.case_id, ())}
            estimate = estimate_of(run, primary, clusters=clusters, only=mine)
            slices.append(
                Slice(
                    tag=tag,
                    candidate=run.candidate.name,
                    run_id=run.id,
                    cases=len(mine),
                    score=primary,
                    estimate=estimate,
                    faults=sum(t.fault is not None for t in run.trials if t.case_id in mine),
                    reason="" if estimate else why_no_score(run, primary, only=mine),
                )
            )
    return slices


def slice_lines(slices: Sequence[Slice]) -> list[str]:
    """Return the slices as a table; nothing where no tag has a number."""
    if not any(s.estimate for s in slices):
        return []
    has_faults = any(s.faults for s in slices)
    rows = [
        [
            clean(s.tag) if i == 0 or slices[i - 1].tag != s.tag else "",
            clean(s.candidate),
            s.cases,
            score_cell(s.estimate, s.reason),
            *([s.faults] if has_faults else []),
        ]
        for i, s in enumerate(slices)
    ]
    heads = ["tag", "candidate", "cases", f"{slices[0].score}*"]
    heads += ["faults"] if has_faults else []
    return [
        *tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True).split("\n"),
        "",
    ]


def flaky_lines(runs: Sequence[Run], primary: str) -> list[str]:
    """Return how many cases both pass and miss in their repeats, and the flakiest by name. Which
    score does, is said where there are several.
    """
    lines = []
    for run in runs:
        found = flakiness(run, primary)
        if found is None:
            continue
        who, n = clean(run.candidate.name), len(found.flaky)
        which = f" {primary}" if len(score_names(runs)) > 1 else ""
        share = f"{100 * n / found.cases:.0f} % ({100 * found.lower:.0f}–{100 * found.upper:.0f})"
        lines.append(
            f"~ {who}{which}: {n} of {found.cases} cases both pass and miss in {run.repeats} "
            f"repeats, {share}"
        )
        lines += [
            f"~ {who} {clean(f.case_id)} passed {f.passed} of {f.of} "
            f"({100 * f.lower:.0f}–{100 * f.upper:.0f} %)"
            for f in found.flaky[:FLAKIEST_SHOWN]
        ]
        if n > FLAKIEST_SHOWN:
            lines.append(f"  … and {n - FLAKIEST_SHOWN} more of {who}")
    return lines


def lines_below(runs: Sequence[Run], tasks: Sequence[Task]) -> list[str]:
    """Return what stands under the table of a session's runs."""
    lines = []
    for task in tasks:
        mine = [r for r in runs if r.task == task.name]
        flaky = flaky_lines(mine, task.settings.primary)
        lines += [*flaky, *([""] if flaky else []), *slice_lines(slices_of_task(mine, task))]
    return lines


def slices_of_task(runs: Sequence[Run], task: Task) -> list[Slice]:
    """Return the slices of a task's runs, by the tags that its cases have now."""
    tags = {c.id: c.tags for c in task.cases}
    if any(SYNTHETIC in some for some in tags.values()):  # made rows are read beside the others
        tags = {i: some if SYNTHETIC in some else (*some, COLLECTED) for i, some in tags.items()}
    return slices_of(
        runs,
        task.settings.primary,
        tags=tags,
        clusters={c.id: c.cluster for c in task.cases},
    )


def flaky_of_task(runs: Sequence[Run], task: Task) -> dict[str, Flakiness]:
    """Return the flakiness of each run that has repeats, by run id."""
    found = {run.id: flakiness(run, task.settings.primary) for run in runs}
    return {run_id: f for run_id, f in found.items() if f is not None}
