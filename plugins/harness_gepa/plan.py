"""Who is reflected on and who judges, within the budget. Knows nothing of the library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from harness import Case, OptimiseJob, UsageError

MINIBATCH = 3
JUDGES_SHARE = 5
"""A fifth of the budget judges the seed: what is left then lets several rewrites be judged."""
FEWEST_JUDGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`feedback` are the cases that the reflection model sees, `judges` those that prompts are
    judged by, and that nobody is shown. `shows_references` where the feedback is train's.
    """

    feedback: tuple[Case, ...]
    judges: tuple[Case, ...]
    shows_references: bool
    notes: tuple[str, ...] = ()

    @property
    def dearest_step(self) -> int:
        """The most calls that one rewrite takes: parent and child, then the child judged."""
        return 2 * MINIBATCH + len(self.judges)


def plan(job: OptimiseJob) -> Plan:
    """Return the plan of `job`. Raises UsageError where cases or calls are too few."""
    notes = []
    feedback, dev = job.train, drawn(job.dev, seed=job.seed)
    is_train = len(feedback) >= MINIBATCH
    if not is_train:
        # by cluster, so that no judge is a sibling of a case that was shown
        clusters = list(dict.fromkeys(c.cluster or c.id for c in dev))
        shown = set(clusters[: len(clusters) // 2])
        feedback = tuple(c for c in dev if (c.cluster or c.id) in shown)
        dev = [c for c in dev if (c.cluster or c.id) not in shown]
        notes.append(
            f"fewer than {MINIBATCH} train cases, so that the reflection model saw "
            f"{len(feedback)} dev cases: this prompt's score on dev flatters it"
        )
    judges = tuple(dev[: max(FEWEST_JUDGES, job.max_calls // JUDGES_SHARE)])
    if len(feedback) < MINIBATCH or len(judges) < FEWEST_JUDGES:
        raise UsageError(
            f"gepa needs {MINIBATCH} cases to learn from (train, else half of dev) and "
            f"{FEWEST_JUDGES} of dev to judge by; this task gives {len(feedback)} and "
            f"{len(judges)}. Add cases."
        )
    found = Plan(feedback=feedback, judges=judges, shows_references=is_train, notes=tuple(notes))
    needed = len(judges) + found.dearest_step
    if job.max_calls < needed:
        raise UsageError(
            f"--max-calls {job.max_calls} lets gepa try no rewrite: it needs {needed} "
            f"({len(judges)} cases judge the seed and each rewrite). 150 is a usual budget."
        )
    return found


def drawn(cases: Sequence[Case], *, seed: int) -> list[Case]:
    """Return `cases` in a seeded order, the first of each cluster before any second."""

    def place(case: Case) -> str:
        return hashlib.sha256(f"{seed} {case.id}".encode()).hexdigest()

    turns: dict[str, int] = {}
    keyed = []
    for case in sorted(cases, key=place):
        cluster = case.cluster or case.id
        keyed.append((turns.get(cluster, 0), place(case), case))
        turns[cluster] = turns.get(cluster, 0) + 1
    return [case for _, _, case in sorted(keyed, key=lambda k: k[:2])]
