"""The conditions of a wall as people read them. Knows the numbers; decides nothing."""

from __future__ import annotations

import math

from harness.core.audit import audit_text, named
from harness.core.coverage import LABELS
from harness.core.measures import Measures, WallInput
from harness.core.planning import CLUSTERS_FOR_WALL
from harness.core.reach import TREND_ALPHA
from harness.core.words import chance, count, percent, points


def sure(alpha: float) -> str:
    """Return `95 % sure`."""
    return f"{percent(1 - alpha, digits=0)} sure"


def next_tries(horizon: int) -> str:
    """Return how far the verdict speaks."""
    return "the next try" if horizon == 1 else f"one of the next {horizon} tries"


def more_tries(evidence: WallInput, seen: Measures) -> int:
    """Return how many tries the present pace needs to the target."""
    slope = seen.line.slope if seen.line is not None else 0.0
    return max(1, math.ceil((evidence.target - seen.best_mean) / slope)) if slope > 0 else 1


def level(evidence: WallInput, seen: Measures) -> str:
    """Return condition (a)."""
    target = percent(evidence.target)
    is_below = seen.upper < evidence.target
    verb = "every try is below" if is_below else f"{seen.upper_name} may be at"
    return f"{verb} {target}: at most {percent(seen.upper)} ({sure(evidence.alpha)})"


def reach(evidence: WallInput, seen: Measures) -> str:
    """Return condition (b)."""
    ahead = f"{next_tries(seen.horizon)} reaches {percent(evidence.target)}"
    if seen.reach is None:
        return f"chance that {ahead}: unknown below three tries in two clusters"
    return f"chance that {ahead}: {chance(seen.reach)} (limit 5 %)"


def climb(evidence: WallInput, seen: Measures) -> str:
    """Return condition (c)."""
    if seen.line is None:
        return "whether scores still rise: unknown below three tries"
    pace = f"the last {seen.window} tries move by {points(seen.line.slope, is_signed=True)} a try"
    if seen.climbing:
        return f"{pace}; at that pace {more_tries(evidence, seen)} more may reach the target"
    if seen.line.p_value <= TREND_ALPHA:
        return f"{pace}: rising, but not at a pace that would close the gap"
    return f"{pace}: not shown to rise"


def resolution(seen: Measures) -> str:
    """Return condition (d)."""
    if seen.resolution is None:
        return "the gain that this eval could have seen: unknown below two tries in two clusters"
    least = f"a gain of {points(seen.resolution)}" if seen.resolution < 1 else "no gain at all"
    return f"this eval could have seen {least} ({points(seen.limit)} or less needed)"


def clusters(seen: Measures) -> str:
    """Return condition (e), the cases."""
    text = (
        f"{count(seen.n, 'case')} in {count(seen.clusters, 'cluster')} "
        f"({CLUSTERS_FOR_WALL} needed); the largest holds {percent(seen.largest_share, digits=0)}"
    )
    if seen.largest_share > 0.2:
        text += f", so they tell as much as {seen.effective:.0f} equal ones: no wall from these"
    return text


def control(evidence: WallInput, seen: Measures) -> str:
    """Return condition (e), the grader."""
    if seen.control is None:
        return "the reference answers were not graded"
    return (
        f"the reference answers score {percent(seen.control)} under the same grader "
        f"({percent(evidence.target)} needed)"
        + (f"; it fails {named(evidence.control_missed)}" if evidence.control_missed else "")
    )


def labels(evidence: WallInput) -> str:
    """Return condition (f)."""
    ceiling = evidence.label_ceiling
    if evidence.audit is not None and (ceiling is not None or LABELS not in evidence.waivers):
        found = audit_text(evidence.audit)
        wrong = len(evidence.audit.wrong)
        return f"{found}; correct the {count(wrong, 'wrong label')}" if wrong else found
    if ceiling is not None:
        return (
            f"labels audited on {count(ceiling.n, 'case')}: right in {percent(ceiling.mean)} "
            f"({percent(ceiling.lower)} to {percent(ceiling.upper)})"
        )
    if LABELS in evidence.waivers:
        return f"labels not audited, waived: {evidence.waivers[LABELS]}"
    return "labels neither audited nor waived"
