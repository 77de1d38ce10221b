"""Where the marks of a training's curve stand. Geometry only: the template draws it.

Two lines over the steps: the score on dev, on an axis from 0 to 1, and the loss, on one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Artifact, CurvePoint
from harness.surface.report import words

LEFT, RIGHT, TOP, BASE = 40.0, 440.0, 14.0, 124.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A look at dev. `is_kept` marks the checkpoint that became the artifact."""

    x: float
    y: float
    label: str
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A training: the path of its loss, and its looks. `told` says it in words."""

    width: float
    height: float
    left: float
    right: float
    top: float
    base: float
    loss: str
    score: str
    looks: tuple[Mark, ...]
    most_loss: str
    steps: str
    told: str


def curve_of(artifact: Artifact) -> Curve | None:
    """Return the curve of `artifact`, None where fewer than two points are known."""
    points = artifact.curve
    if len(points) < 2:
        return None
    last = points[-1].step
    losses = [p.loss for p in points if p.loss is not None]
    most = max(losses, default=0.0) or 1.0
    scored = [p for p in points if p.score is not None]
    kept = artifact.metrics.get("best_step")
    looks = tuple(
        Mark(
            x=_x(p, last),
            y=_y(p.score or 0.0),
            label=f"step {p.step}: {words.percent(p.score or 0.0)} on dev",
            is_kept=kept is not None and p.step == int(kept),
        )
        for p in scored
    )
    return Curve(
        width=480.0,
        height=BASE + 26,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        base=BASE,
        loss=_path([(_x(p, last), _y(p.loss / most)) for p in points if p.loss is not None]),
        score=_path([(m.x, m.y) for m in looks]),
        looks=looks,
        most_loss=f"{most:.2g}",
        steps=str(last),
        told=_told(points, scored, kept),
    )


def _told(points: Sequence[CurvePoint], scored: Sequence[CurvePoint], kept: float | None) -> str:
    losses = [p.loss for p in points if p.loss is not None]
    said = [f"Loss {losses[0]:.3g} at first and {losses[-1]:.3g} at last."] if losses else []
    if scored:
        count = words.plural(len(scored), "look")
        said.append(f"{count} at dev: {', '.join(words.percent(p.score or 0.0) for p in scored)}.")
    if kept is not None:
        said.append(f"The checkpoint of step {kept:.0f} was kept: a choice on dev.")
    return " ".join(said)


def _x(point: CurvePoint, last: int) -> float:
    return round(LEFT + (RIGHT - LEFT) * point.step / max(last, 1), 1)


def _y(share: float) -> float:
    return round(BASE - (BASE - TOP) * min(max(share, 0.0), 1.0), 1)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)
