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
class Learning:
    """The cases that a reflection model may see, and those that judge and are shown to nobody (in a
    seeded order). `shows_references` where the shown are train's.
    """

    shown: tuple[Case, ...]
    judges: tuple[Case, ...]
    shows_references: bool
    notes: tuple[str, ...] = ()


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
    known = learning(job)
    feedback = known.shown
    judges = known.judges[: max(FEWEST_JUDGES, job.max_calls // JUDGES_SHARE)]
    if len(feedback) < MINIBATCH or len(judges) < FEWEST_JUDGES:
        raise UsageError(
            f"gepa needs {MINIBATCH} cases to learn from (train, else half of dev) and "
            f"{FEWEST_JUDGES} of dev to judge by; this task gives {len(feedback)} and "
            f"{len(judges)}. Add cases."
        )
    found = Plan(
        feedback=feedback,
        judges=judges,
        shows_references=known.shows_references,
        notes=known.notes,
    )
    needed = len(judges) + found.dearest_step
    if job.max_calls < needed:
        raise UsageError(
            f"--max-calls {job.max_calls} lets gepa try no rewrite: it needs {needed} "
            f"({len(judges)} cases judge the seed and each rewrite). 150 is a usual budget."
        )
    return found


def learning(job: OptimiseJob) -> Learning:
    """Return who is learned from and who judges: train and dev, else a half of dev each."""
    dev = drawn(job.dev, seed=job.seed)
    if len(job.train) >= MINIBATCH:
        return Learning(shown=job.train, judges=tuple(dev), shows_references=True)
    # by cluster, so that no judge is a sibling of a case that was shown
    clusters = list(dict.fromkeys(c.cluster or c.id for c in dev))
    half = set(clusters[: len(clusters) // 2])
    shown = tuple(c for c in dev if (c.cluster or c.id) in half)
    note = (
        f"fewer than {MINIBATCH} train cases, so that the reflection model saw {len(shown)} dev "
        "cases: this prompt's score on dev flatters it"
    )
    judges = tuple(c for c in dev if (c.cluster or c.id) not in half)
    return Learning(shown=shown, judges=judges, shows_references=False, notes=(note,))


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
