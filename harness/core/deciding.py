"""Which condition decided a wall verdict. Reads a verdict; decides nothing itself.

The order is that of `wall.judge_wall`; a test holds the two together.
"""

from __future__ import annotations

from harness.core.planning import CLUSTERS_FOR_ANY
from harness.core.wall import MISSING_LIMIT
from harness.records import WallVerdict

ALL = "every condition"


def decided_by(verdict: WallVerdict) -> str:
    """Return the name of the condition that decided, `missing`, or how a prompt was shown good."""
    holds = {c.name: c.holds for c in verdict.conditions}
    counted = [t for t in verdict.tries if t.is_counted]
    if verdict.answer == "WALL":
        return ALL
    if verdict.answer == "SHIP_PROMPT":
        return "lower bound"
    if verdict.answer == "FIX_DATA":
        return "positive control" if holds["positive control"] is False else "labels"
    if verdict.answer == "KEEP_PROMPTING":
        if holds["coverage"] is False:
            return "coverage"
        return "not climbing" if verdict.is_climbing else "reach"
    if any(t.missing > MISSING_LIMIT * (t.estimate.n + t.missing) for t in counted):
        return "missing"
    if any(t.estimate.clusters < CLUSTERS_FOR_ANY for t in counted):
        return "clusters"
    open_ones = ("clusters", "level", "resolution", "reach", "not climbing")
    return next(
        (name for name in open_ones if holds.get(name) is False),
        next((name for name, held in holds.items() if held is None), "coverage"),
    )
