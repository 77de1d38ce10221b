"""What an answer to "should we fine-tune?" may rest on, and how its reasons name each piece.

Knows no rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.core.costs import CostView
from harness.records import Estimate, ReleaseVerdict, WallVerdict

FEW_ROWS = 50
FEW_MISSES = 10
"""Fewer tagged misses than this say nothing of the others."""
MISS_KINDS = ("knowledge", "rules", "format")
"""Tags of cases that say what a miss of them lacks; people set them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """`evidence` names a verdict, a run or the data; `[advise] KEY` marks a stated fact. A reason
    that `decides` is one that the answer rests on.
    """

    text: str
    evidence: str
    is_for_tuning: bool | None = None
    decides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A candidate that is no prompt on the task's model: its estimate on dev, and its run."""

    name: str
    run_id: str
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A narrower task beside the whole one. `gain` is scoped minus broad on the same cases, or
    None where `scoped` is a tag, whose cases alone `estimate` speaks of.
    """

    broad: str
    scoped: str
    evidence: str
    estimate: Estimate
    gain: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Misses:
    """The misses of the best try, by the kind that people tagged their cases with."""

    candidate: str
    run_id: str
    kinds: Mapping[str, int]
    misses: int

    @property
    def tagged(self) -> int:
        """How many misses are of a case with a kind (of two kinds: twice)."""
        return sum(self.kinds.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The newest learning curve of the ledger; `is_climbing` where its last step shows a gain."""

    text: str
    at: str
    is_climbing: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """What the dated table says of tuning a model, or of training on its outputs."""

    kind: Literal["tuning", "outputs"]
    text: str
    source: str
    checked: str = ""
    is_open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was measured or stated. `why_stale` says why the wall verdict does not hold now;
    `internal` counts the cases that may not leave this machine, `outside` the backends that would
    take them out; `crossings` are the overrides on record. `labels` is the audit, where one was
    made; `has_rag` tells whether retrieval was tried. `release` is of a tuned candidate, never of
    a prompt; `untunable` says why the task's own model cannot be tuned.
    """

    target: float
    wall: WallVerdict | None
    why_stale: str | None
    training_rows: int
    task: str = ""
    people: Measured | None = None
    classical: tuple[Measured, ...] = ()
    best: Measured | None = None
    scope: Scope | None = None
    misses: Misses | None = None
    has_rag: bool = False
    labels: str = ""
    pilot: Pilot | None = None
    release: ReleaseVerdict | None = None
    costs: CostView = field(default_factory=CostView)
    internal: int = 0
    outside: tuple[str, ...] = ()
    crossings: tuple[str, ...] = ()
    provisions: tuple[Provision, ...] = ()
    untunable: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


# ---------------------------------------------------------------- names

TRAIN = "the train split"
OFFERS = "tunable.toml"
LABELS = "the label audit"


def wall_name(e: Evidence) -> str:
    """Return how reasons name the wall verdict; nothing where there is none."""
    return f"wall verdict {e.wall.id}" if e.wall is not None else ""


def release_name(e: Evidence) -> tuple[str, ...]:
    """Return how reasons name the release verdict, in a tuple that may be empty."""
    return (f"release verdict {e.release.id}",) if e.release is not None else ()


def run_name(one: Measured) -> str:
    """Return how reasons name a run."""
    return f"run {one.run_id[:8]}"


def misses_name(misses: Misses) -> str:
    """Return how reasons name tagged misses."""
    return f"run {misses.run_id[:8]}, tags"
