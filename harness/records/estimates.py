"""What every run is told with: an estimate, and what is held against it. Knows no verdict."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with one-sided bounds, each at level `alpha`, from `n` cases in `clusters`."""

    mean: float
    lower: float
    upper: float
    n: int
    clusters: int
    alpha: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a verdict. `holds` is `None` where it was not checked."""

    name: str
    holds: bool | None
    text: str
