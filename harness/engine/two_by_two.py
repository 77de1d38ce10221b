"""The 2 x 2 of two factors, as documents and tuning, from four recorded runs. Asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.factorial import Factorial, factorial
from harness.core.scoring import table_values
from harness.engine.ladder import Ladder
from harness.engine.tasks import Task
from harness.errors import NotEnoughEvidence, UsageError
from harness.records import Candidate, Estimate, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoByTwo:
    """Four runs on the same cases, in the order neither, first factor, second, both."""

    runs: tuple[Run, ...]
    means: tuple[Estimate, ...]
    effects: Factorial
    unscored: int = 0


def two_by_two(task: Task, ladder: Ladder, candidates: Sequence[Candidate]) -> TwoByTwo:
    """Return the effects of two factors on the primary score, from the recorded runs of four
    candidates. Raises NotEnoughEvidence naming what to run, and UsageError where two are one.
    """
    from harness.core.tries import try_estimates

    found = {c.digest: ladder.complete(c) for c in candidates}
    by_digest = {key: run for key, run in found.items() if run is not None}
    lacking = [c.name for c in candidates if c.digest not in by_digest]
    if lacking:
        names = " ".join(f"--candidate '{name}'" for name in lacking)
        raise NotEnoughEvidence(
            f"no complete, current run of {', '.join(lacking)}. "
            f"Make one: harness eval {task.name} {names}"
        )
    digests = [c.digest for c in candidates]
    for place, one in enumerate(candidates):
        first = digests.index(one.digest)
        if first != place:
            raise UsageError(f"{one.name!r} is {candidates[first].name!r}: four are needed")
    runs = [by_digest[d] for d in digests]
    split = runs[0].split
    cases = task.split(split)
    kept, table = table_values(runs, task.settings.primary, cases=[c.id for c in cases])
    if not kept:
        raise NotEnoughEvidence(f"no case has the score {task.settings.primary!r} in all four runs")
    cluster_of = {c.id: c.cluster for c in cases}
    clusters = [cluster_of[c] for c in kept]
    effects = factorial(table, clusters)
    import numpy as np

    return TwoByTwo(
        runs=tuple(runs),
        means=try_estimates(np.asarray(table), clusters),
        effects=effects,
        unscored=len(cases) - len(kept),
    )
