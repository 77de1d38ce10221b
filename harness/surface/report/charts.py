"""Where the marks of each chart stand. Geometry only: the templates draw, and escape what they say.

Every chart is laid out twice, `wide` and narrow, and the style sheet shows the one that fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Comparison, Estimate
from harness.surface.report import words
from harness.surface.report.model import LengthBin, Rung


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis."""

    x: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRow:
    """One rung: its words, and the places of its dot and interval."""

    y: float
    top: float
    label: str
    note: str
    value: str
    span: str
    x: float
    lower: float
    upper: float
    kind: str
    is_best: bool
    is_counted: bool
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderChart:
    """The ladder. `rules` are the heights at which one kind of candidate ends."""

    is_wide: bool
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    row_height: float
    rows: tuple[LadderRow, ...]
    ticks: tuple[Tick, ...]
    rules: tuple[float, ...]
    target: Tick | None


def ladder(
    rungs: Sequence[Rung], *, target: float | None, best: str | None, wide: bool
) -> LadderChart:
    """Lay out a dot and an interval a rung, on one axis from 0 to 100 %."""
    width, left, right = (1000.0, 226.0, 822.0) if wide else (380.0, 8.0, 372.0)
    row_height, gap, top = (44.0, 16.0, 40.0) if wide else (58.0, 14.0, 40.0)

    def place(share: float) -> float:
        return round(left + (right - left) * min(1.0, max(0.0, share)), 1)

    rows: list[LadderRow] = []
    rules: list[float] = []
    y = top
    for index, rung in enumerate(rungs):
        if index and rung.kind != rungs[index - 1].kind:
            rules.append(round(y + gap / 2, 1))
            y += gap
        tried, estimate = rung.result, rung.result.estimate
        is_best = rung.kind == "prompt" and best is not None and tried.candidate == best
        said = [
            "best prompt" if is_best else "",
            tried.family if tried.family != tried.candidate and (wide or not is_best) else "",
            "" if tried.is_counted or rung.kind != "prompt" else "not counted",
        ]
        rows.append(
            LadderRow(
                y=round(y + (row_height / 2 if wide else row_height - 18), 1),
                top=round(y, 1),
                label=words.cut_middle(tried.candidate, 24),
                note=words.cut(" · ".join(s for s in said if s), 34 if wide else 26),
                value=words.percent(estimate.mean),
                span=words.span(estimate),
                x=place(estimate.mean),
                lower=place(estimate.lower),
                upper=place(estimate.upper),
                kind=rung.kind,
                is_best=is_best,
                is_counted=tried.is_counted,
                title=f"{tried.candidate}: {words.percent(estimate.mean)} of "
                f"{words.plural(estimate.n, 'case')}, between {words.span(estimate)}",
            )
        )
        y += row_height
    steps = (0, 0.2, 0.4, 0.6, 0.8, 1) if wide else (0, 0.25, 0.5, 0.75, 1)
    return LadderChart(
        is_wide=wide,
        width=width,
        height=round(y + 32, 1),
        left=left,
        right=right,
        top=top,
        bottom=round(y, 1),
        row_height=row_height,
        rows=tuple(rows),
        ticks=tuple(Tick(x=place(s), label=words.percent(s)) for s in steps),
        rules=tuple(rules),
        target=None
        if target is None
        else Tick(x=place(target), label=f"target {words.percent(target)}"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of the wins, ties and losses bar."""

    kind: str
    count: int
    x: float
    width: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaChart:
    """Wins, ties and losses as one bar, and the difference with its bounds on an axis."""

    is_wide: bool
    width: float
    segments: tuple[Segment, ...]
    ticks: tuple[Tick, ...]
    zero: float
    least: Tick
    x: float
    lower: float
    upper: float
    anchor: str
    said: str
    tone: str


def delta(comparison: Comparison, *, min_gain: float, wide: bool) -> DeltaChart:
    """Lay out one paired comparison."""
    width = 1000.0 if wide else 380.0
    pad = 26.0
    estimate = comparison.delta
    low, high, step = _axis(estimate, min_gain=min_gain, most=8 if wide else 5)

    def place(value: float) -> float:
        share = (min(high, max(low, value)) - low) / (high - low)
        return round(pad + (width - 2 * pad) * share, 1)

    x = place(estimate.mean)
    count = round((high - low) / step)
    return DeltaChart(
        is_wide=wide,
        width=width,
        segments=_segments(comparison, width=width),
        ticks=tuple(
            Tick(x=place(low + i * step), label=words.points(round(low + i * step, 6)))
            for i in range(count + 1)
        ),
        zero=place(0.0),
        least=Tick(x=place(min_gain), label=f"least gain {words.points(min_gain)}"),
        x=x,
        lower=place(estimate.lower),
        upper=place(estimate.upper),
        anchor="start" if x < width * 0.25 else "end" if x > width * 0.75 else "middle",
        tone="better" if estimate.lower > 0 else "worse" if estimate.upper < 0 else "",
        said=f"{words.points(estimate.mean)} points (at least {words.points(estimate.lower)})",
    )


def _segments(comparison: Comparison, *, width: float) -> tuple[Segment, ...]:
    counts = (
        ("win", comparison.wins, "better"),
        ("tie", comparison.ties, "alike"),
        ("loss", comparison.losses, "worse"),
    )
    total = sum(count for _, count, _ in counts) or 1
    found, x = [], 0.0
    for kind, count, word in counts:
        share = width * count / total
        if count:
            fits = share > 9 * (len(word) + 5)
            found.append(
                Segment(
                    kind=kind,
                    count=count,
                    x=round(x, 1),
                    width=round(max(share - 2, 1.5), 1),
                    label=f"{count} {word}" if fits else str(count) if share > 26 else "",
                )
            )
        x += share
    return tuple(found)


def _axis(estimate: Estimate, *, min_gain: float, most: int) -> tuple[float, float, float]:
    """Ends and step of an axis that holds zero, the least gain and both bounds."""
    low = max(-1.0, min(-0.05, estimate.lower - 0.02))
    high = min(1.0, max(0.05, min_gain + 0.05, estimate.upper + 0.02))
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5):
        first = math.floor(round(low / step, 6))
        last = math.ceil(round(high / step, 6))
        if last - first <= most:
            break
    return first * step, last * step, step


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the histogram."""

    x: float
    y: float
    width: float
    height: float
    label: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How long the inputs are."""

    width: float
    height: float
    base: float
    columns: tuple[Column, ...]


def histogram(bins: Sequence[LengthBin], *, width: float = 480.0) -> Histogram:
    """Lay out the lengths of the inputs, one column a bin."""
    base, tall = 120.0, 96.0
    most = max((b.cases for b in bins), default=0) or 1
    step = width / max(1, len(bins))
    columns = tuple(
        Column(
            x=round(i * step + 2, 1),
            y=round(base - tall * b.cases / most, 1),
            width=round(step - 4, 1),
            height=round(tall * b.cases / most, 1),
            label=f"{words.number(b.low)}",
            count=b.cases,
        )
        for i, b in enumerate(bins)
    )
    return Histogram(width=width, height=base + 22, base=base, columns=columns)
