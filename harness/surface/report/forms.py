"""The forms of a tuned model as rows of a table, each with the interval of its loss.

Geometry and words only: the template draws it, and nothing here knows how a form was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.engine.variants import MeasuredForm, MeasuredForms
from harness.records import Estimate
from harness.surface.report import words

WIDTH, INSET, LEAST = 160.0, 6.0, 0.05
MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """Places along a line of `WIDTH`: no change, the margin, and the interval with its middle."""

    none: float
    margin: float
    low: float
    high: float
    middle: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormRow:
    """One form, in words. `tone` is a class of the style sheet, `""` for the one it is compared
    with.
    """

    form: str
    digest: str
    weights: str
    score: str
    change: str
    speed: str
    peak: str
    verdict: str
    tone: str
    reason: str
    whisker: Whisker | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FormTable:
    """All forms of one artifact that were measured together."""

    name: str
    digest: str
    at: str
    margin: str
    rows: tuple[FormRow, ...]


_VERDICTS = {
    "SHIP": ("as good", "improved"),
    "BLOCK": ("worse", "regressed"),
    "INSUFFICIENT_EVIDENCE": ("not shown", "fault"),
}


def form_table(measured: MeasuredForms, *, at: str) -> FormTable:
    """Return the table of what one `harness model variants` measured."""
    spread = max(
        [LEAST, measured.margin]
        + [
            abs(edge)
            for f in measured.forms
            if f.change
            for edge in (f.change.lower, f.change.upper)
        ]
    )
    return FormTable(
        name=measured.name,
        digest=measured.artifact,
        at=at,
        margin=words.bare_points(measured.margin),
        rows=tuple(_row(f, measured.margin, spread=spread) for f in measured.forms),
    )


def _row(form: MeasuredForm, margin: float, *, spread: float) -> FormRow:
    verdict, tone = _VERDICTS.get(form.answer or "", ("", ""))
    if form.answer is None and form.reason:
        verdict, tone = "not made", "fault"
    return FormRow(
        form=form.form,
        digest=form.artifact or "",
        weights=_mebibytes(form.bytes),
        score=words.percent(form.score.mean) if form.score else words.NONE,
        change=_change(form.change),
        speed=words.number(form.tokens_per_s, digits=1),
        peak=_mebibytes(form.peak_bytes),
        verdict=verdict,
        tone=tone,
        reason=form.reason,
        whisker=_whisker(form.change, margin, spread=spread),
    )


def _change(delta: Estimate | None) -> str:
    if delta is None:
        return words.NONE
    return (
        f"{words.points(delta.mean)} ({words.points(delta.lower)} to {words.points(delta.upper)})"
    )


def _whisker(delta: Estimate | None, margin: float, *, spread: float) -> Whisker | None:
    if delta is None:
        return None

    def place(value: float) -> float:
        share = (min(max(value, -spread), spread) + spread) / (2 * spread)
        return round(INSET + (WIDTH - 2 * INSET) * share, 1)

    label = f"change {_change(delta)}; the margin is {words.bare_points(margin)}"
    return Whisker(
        none=place(0.0),
        margin=place(-margin),
        low=place(delta.lower),
        high=place(delta.upper),
        middle=place(delta.mean),
        label=label,
    )


def _mebibytes(count: int | None) -> str:
    return words.NONE if count is None else f"{count / MEBIBYTE:,.0f}".replace(",", " ")


def latest(tables: Sequence[FormTable]) -> tuple[FormTable, ...]:
    """Return the last table of each artifact, in the order in which they were measured."""
    return tuple({table.digest: table for table in tables}.values())
