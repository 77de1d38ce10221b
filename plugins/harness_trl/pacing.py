"""How long a step takes: a few of them, timed. Knows nothing of models.

On a machine that does other things too, a step takes as long as these let it. Its processor time
is what it would take alone: the two are told apart, since an afternoon may lie between them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

MOST_STEPS = 6
ENOUGH_S = 3.0
"""Steps are timed for so long, one at least, after one that warms up."""
BUSY = 1.3
"""How many times its processor time a step takes before the machine is called busy."""

End = tuple[float, float]
"""When a step ended: by the clock, and in seconds of this process's processors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of a step: as busy as the machine is now, and alone on it (None: not told apart).
    `steps` were timed.
    """

    seconds: float
    least_seconds: float | None = None
    steps: int = 1
    threads: int = 1

    def times(self, factor: float) -> Pace:
        """Return the pace of steps that are so many times as long."""
        least = None if self.least_seconds is None else self.least_seconds * factor
        return replace(self, seconds=self.seconds * factor, least_seconds=least)


def note_end(ends: list[End]) -> bool:
    """Note when a step ended, and return whether another one should be timed."""
    ends.append((time.monotonic(), time.process_time()))
    timed = ends[-1][0] - ends[0][0]
    return len(ends) < 2 or (len(ends) < MOST_STEPS and timed < ENOUGH_S)


def pace_of(ends: Sequence[End], *, threads: int | None) -> Pace:
    """Return the pace of steps that ended at `ends`, the first of which only warmed up. `threads`
    is None where something else than processors computes.
    """
    walls = [b[0] - a[0] for a, b in pairwise(ends)]
    seconds = statistics.median(walls)
    if threads is None:
        return Pace(seconds=seconds, steps=len(walls))
    busy = [b[1] - a[1] for a, b in pairwise(ends)]
    least = min(*walls, statistics.median(busy) / threads)
    told = least if seconds > BUSY * least else None
    return Pace(seconds=seconds, least_seconds=told, steps=len(walls), threads=threads)


def pace_told(pace: Pace, *, what: str) -> str:
    """Return what a pace rests on, for a person."""
    steps = "1 step" if pace.steps == 1 else f"{pace.steps} steps"
    threads = "1 thread" if pace.threads == 1 else f"{pace.threads} threads"
    said = f"time: from {steps} of {what}, after one to warm up; without loading and looks at dev"
    if pace.least_seconds is None:
        return said
    return (
        f"{said}. The machine is busy: the higher figure is as it is now, the lower one their "
        f"processor time on {threads}, as if nothing else ran"
    )
