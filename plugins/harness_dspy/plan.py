"""Who is learned from, who judges and how often, within the budget. Knows no library."""

from __future__ import annotations

from dataclasses import dataclass

from harness_gepa.plan import Learning, drawn, learning

from harness import Case, OptimiseJob, UsageError

JUDGES_SHARE = 10
"""A tenth of the budget judges one prompt: what is left then judges seven others."""
TRIED_SHARE = 8
"""An eighth of the budget finds examples: train cases that the seed prompt answers right."""
FEWEST_LEARNED = 3
FEWEST_JUDGES = 4
FEWEST_INSTRUCTIONS = 3
MOST_INSTRUCTIONS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`tried` are asked with the seed prompt, for examples (no internal case: a prompt may be sent
    elsewhere later); `judges` are what each prompt is judged
    by, and shown to nobody. `rounds` is how many prompts besides the seed the budget judges, and
    `instructions` how many texts, the seed's among them, they are combined from.
    """

    known: Learning
    tried: tuple[Case, ...]
    judges: tuple[Case, ...]
    rounds: int
    instructions: int


def plan(job: OptimiseJob) -> Plan:
    """Return the plan of `job`. Raises UsageError where cases or calls are too few."""
    known = learning(job)
    judges = known.judges[: max(FEWEST_JUDGES, job.max_calls // JUDGES_SHARE)]
    if len(known.shown) < FEWEST_LEARNED or len(judges) < FEWEST_JUDGES:
        raise UsageError(
            f"dspy needs {FEWEST_LEARNED} cases to learn from (train, else half of dev) and "
            f"{FEWEST_JUDGES} of dev to judge by; this task gives {len(known.shown)} and "
            f"{len(judges)}. Add cases."
        )
    tried: tuple[Case, ...] = ()
    if known.shows_references:  # a dev case is no example: its siblings are among the judges
        own = [c for c in drawn(known.shown, seed=job.seed) if "internal" not in c.tags]
        tried = tuple(own[: job.max_calls // TRIED_SHARE])
    rounds = (job.max_calls - len(tried) - len(judges)) // len(judges)
    if rounds < 1:
        needed = 2 * FEWEST_JUDGES + known.shows_references  # so few calls try one case
        raise UsageError(
            f"--max-calls {job.max_calls} lets dspy try no rewrite: it needs {needed} "
            f"({FEWEST_JUDGES} cases judge the seed and each rewrite). 150 is a usual budget."
        )
    return Plan(
        known=known,
        tried=tried,
        judges=judges,
        rounds=rounds,
        instructions=min(MOST_INSTRUCTIONS, max(FEWEST_INSTRUCTIONS, rounds)),
    )
